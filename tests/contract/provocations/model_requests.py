"""Requests that ask a model, and the errors that they provoke: of the model `moves`, which takes all of them."""

import gzip
import json
from typing import Any

from tests.contract.error_target import Answer, Target
from tests.contract.provocations.case import Case, Provoke
from tests.e2e.stack import Caller

NAME = "moves"
"""A model of sequences in the dump, with the modality x of 2 features."""
UNLIMITED = {"SENSORIUM_REQUEST_BYTES": str(2**30), "SENSORIUM_INFERENCE_ROWS": "1000000000"}
UNLIMITED["SENSORIUM_INFERENCE_STEPS"] = "1000000000"
"""Settings with which a request may have as many rows as fit into memory."""

_INPUTS = {"encode": {}, "reconstruct": {}, "impute": {}, "score": {}, "forecast": {"horizon": 1, "n_samples": 2}}


def asks_a_model(case: Case) -> bool:
    """Whether an operation computes with a model."""
    return case.id.removesuffix("_by_alias") in {*_INPUTS, "sample"} or case.id.startswith("v2_infer")


def body(case: Case, rows: int = 1) -> dict[str, Any]:
    """A valid body of an operation that asks a model."""
    name = case.id.removesuffix("_by_alias")
    if name == "sample":
        return {"rows": rows, "steps": 1}
    if name in _INPUTS:
        return {"inputs": {"x": [[[0, 1]]] * rows}, **_INPUTS[name]}
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 1, 2], "data": [0, 1] * rows}]}


def ask(target: Target, case: Case, caller: Caller | None = None, **request: Any) -> Answer:
    """Ask version 1 of the model; its alias is made with the first request about it."""
    caller = caller or target.caller
    if "{alias}" in case.path:
        caller.call("PUT", f"/v1/models/{NAME}/aliases/live", json={"version": 1})
    if not {"json", "content"} & request.keys():
        request["json"] = body(case)
    return target.ask(case.method, case.url(target, name=NAME), caller, **request)


def _with(**fields: Any) -> Provoke:
    return lambda target, case: ask(target, case, json={**body(case), **fields})


def _timed_out(target: Target, case: Case) -> Answer:
    late = {"parameters": {"timeout": 1}} if case.id.startswith("v2_") else {"timeout_seconds": 1e-9}
    return _with(**late)(target, case)


def _too_many_rows(target: Target, case: Case) -> Answer:
    """Two rows of a project that may send one at once."""
    narrow = target.tenant(f"narrow-{case.id}", request_rows=1)
    export = target.caller.http.get(f"/v1/models/{NAME}/versions/1/export")
    narrow.call("POST", "/v1/bundles", content=export.content)
    return ask(target, case, narrow, json=body(case, rows=2))


def too_large_rows(target: Target, case: Case) -> Answer:
    """Rows that take more than 512 MiB: 5,000 sequences as long as the first one, or 8 bytes for each byte."""
    if case.id.startswith("v2_"):
        count = 2**26 + 1
        tensor = {"name": "text", "datatype": "UINT8", "shape": [count], "parameters": {"binary_data_size": count}}
        head = json.dumps({"inputs": [tensor]}).encode()
        headers = {"Content-Encoding": "gzip", "Inference-Header-Content-Length": str(len(head))}
        content = gzip.compress(head + bytes(count), 1)
        return target.ask(case.method, case.url(target, name="small"), content=content, headers=headers)
    rows = {"inputs": {"x": [[None] * 15_000, *[None] * 4_999]}}
    return ask(target, case, json={**body(case), **rows})


def _drawn(target: Target, case: Case) -> Answer:
    drawn = {"parameters": {"draws": 1}, "outputs": [{"name": "impute.y.draws"}]}
    return _with(**drawn if case.id.startswith("v2_") else {"draws": 1})(target, case)


ERRORS: dict[str, Provoke] = {
    "invalid_state": _with(state="nothing"),
    "no_conditional": _drawn,
    "timed_out": _timed_out,
    "too_many_rows": _too_many_rows,
}
"""By code."""
