"""Bodies of `infer` become rows, outputs and parameters: small ones in the event loop, large tensors in a thread.

Large JSON is decoded in a process of its own.
"""

import asyncio
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from service.inference import imputed_targets
from service.inference import rows as row_arrays
from service.inference.body_limits import check_counts
from service.inference.decoding import DEFAULT_LEVEL, MAX_DRAWS, MAX_SEED, ModelContext
from service.inference.encoding import OF_DRAWS
from service.inference.modality_values import shown
from service.inference.queries import Operation, Pointers, Query
from service.inference.row_decoding import MAX_FAULTS
from service.inference.rows import Rows
from service.open_inference import framing
from service.open_inference.outputs import Outputs, decode_outputs
from service.open_inference.row_decoding import decode_rows, without_trailing_padding
from service.shared.errors import BadInput, Fault, pointer
from service.shared.parser_process import LARGE_BYTES, Array, ReadingProcess, Values

MAX_ID_CHARACTERS = 200
MAX_MICROSECONDS = 600_000_000
FIELDS = {"id", "parameters", "inputs", "outputs"}
POINTERS = Pointers("/outputs", "/parameters/n_samples", "/parameters/draws")
MAXIMA = {
    "timeout": MAX_MICROSECONDS,
    "n_samples": MAX_DRAWS,
    "draws": MAX_DRAWS,
    "seed": MAX_SEED,
    "priority": 2**64 - 1,
}
_OF_OUTPUTS = "binary_data_output"
_LEVEL = "level"


class Parameters(NamedTuple):
    """The id and the parameters of a request. A `priority` is accepted and ignored."""

    id: str
    timeout_seconds: float
    n_samples: int
    seed: int
    draws: int
    level: float


class InferRequest(NamedTuple):
    """A decoded body. rows: as the client has padded them. imputed: the targets of `impute`."""

    parameters: Parameters
    outputs: Outputs
    rows: Rows
    imputed: list[str]

    @classmethod
    def of(cls, parameters: Parameters, outputs: Outputs, rows: Rows, context: ModelContext) -> "InferRequest":
        """The request with these parts. Raises BadInput if it imputes nothing, or with too many draws."""
        imputed = []
        if outputs.need("impute"):
            imputed = imputed_targets.of(rows, context.config, outputs.targets("impute"))
            context.limits(_draws(parameters, outputs)).check_steps(rows.count, rows.steps, POINTERS.completions)
        return cls(parameters, outputs, rows, imputed)

    def queries(self) -> list[Query]:
        """What has to be computed: `encode` for codes, `reconstruct` for predictions, `impute` for completions."""
        rows, (_, timeout_seconds, n_samples, seed, _, level) = without_trailing_padding(self.rows), self.parameters
        arguments: dict[Operation, dict[str, Any]] = {}
        if self.outputs.need("encode"):
            arguments["encode"] = {}
        if targets := [*self.outputs.targets("reconstruct")]:
            own_seed = seed if n_samples else 0
            arguments["reconstruct"] = {"targets": targets, "n_samples": n_samples, "seed": own_seed}
        if self.imputed:
            draws = _draws(self.parameters, self.outputs)
            own_seed = seed if draws else 0
            arguments["impute"] = {"targets": self.imputed, "draws": draws, "level": level, "seed": own_seed}
        return [Query(name, rows, own, timeout_seconds, pointers=POINTERS) for name, own in arguments.items()]


async def decode(process: ReadingProcess, body: bytes, head_length: str | None, context: ModelContext) -> InferRequest:
    """Decode a body. head_length: the bytes of its JSON if tensors follow. Raises BadInput."""
    if len(body) < LARGE_BYTES:
        return _decode(body, head_length, context)[1]
    if framing.head_bytes(body, head_length) < LARGE_BYTES:
        return (await asyncio.to_thread(_decode, body, head_length, context))[1]
    plain, arrays = await process.read(decode_apart, {"head_length": head_length, "context": context.to_plain()}, body)
    head = plain["head"]
    rows = row_arrays.from_arrays(plain["count"], arrays)
    return InferRequest.of(decode_parameters(head), decode_outputs(head, context.config), rows, context)


def decode_apart(plain: Values, body: bytes) -> tuple[Values, dict[str, Array]]:
    """The same in the other process. Returns the head without its tensors, and their rows as arrays."""
    context, head_length = ModelContext.from_plain(plain["context"]), plain["head_length"]
    check_counts(body[: framing.head_bytes(body, head_length)], context.config, context.rows, context.steps)
    head, decoded = _decode(body, head_length, context)
    without_inputs = {name: value for name, value in head.items() if name != "inputs"}
    return {"head": without_inputs, "count": decoded.rows.count}, row_arrays.to_arrays(decoded.rows)


def decode_parameters(head: Mapping[str, Any]) -> Parameters:
    """The id and the parameters of a request. Raises BadInput."""
    faults = [
        Fault(pointer(name), "unknown_field", f"unknown field {shown(name)}, expected some of {sorted(FIELDS)}")
        for name in head
        if name not in FIELDS
    ]
    values = head.get("parameters") or {}
    if not isinstance(values, dict):
        faults.append(Fault("/parameters", "not_an_object", f"parameters is {shown(values)}, expected an object"))
        values = {}
    # JSON Schema's integers may be written 1.0.
    values = {name: int(value) if _is_whole(value) else value for name, value in values.items()}
    for name, value in values.items():
        if name == _OF_OUTPUTS:
            if type(value) is not bool:
                detail = f"parameter {name} is {shown(value)}, expected true or false"
                faults.append(Fault(pointer("parameters", name), "bad_boolean", detail))
        elif name == _LEVEL:
            if type(value) not in (int, float) or not 0 < value < 1:
                detail = f"parameter {name} is {shown(value)}, expected a number above 0 and below 1"
                faults.append(Fault(pointer("parameters", name), "bad_fraction", detail))
        elif name not in MAXIMA:
            detail = f"parameter {shown(name)}, expected some of {sorted({*MAXIMA, _OF_OUTPUTS, _LEVEL})}"
            if name.startswith("sequence_"):
                detail += "; a sequence comes whole, or in pieces with the `state` of /v1"
            faults.append(Fault(pointer("parameters", name), "unknown_parameter", detail))
        elif type(value) is not int or not 0 <= value <= MAXIMA[name]:
            detail = f"parameter {name} is {shown(value)}, expected an integer from 0 to {MAXIMA[name]}"
            faults.append(Fault(pointer("parameters", name), "bad_integer", detail))
    request_id = head.get("id", "")
    if not isinstance(request_id, str) or len(request_id) > MAX_ID_CHARACTERS or "\0" in request_id:
        expected = f"text of at most {MAX_ID_CHARACTERS} characters, none of them zero"
        faults.append(Fault("/id", "bad_id", f"id is {shown(request_id)}, expected {expected}"))
    if faults:
        raise BadInput(faults[:MAX_FAULTS])
    timeout_seconds = values["timeout"] / 1e6 if values.get("timeout") else math.inf
    return Parameters(
        request_id,
        timeout_seconds,
        values.get("n_samples", 0),
        values.get("seed", 0),
        values.get("draws", 0),
        values.get(_LEVEL, DEFAULT_LEVEL),
    )


def _decode(body: bytes, head_length: str | None, context: ModelContext) -> tuple[dict[str, Any], InferRequest]:
    head, binary = framing.split(body, head_length)
    parameters, outputs = decode_parameters(head), decode_outputs(head, context.config)
    rows = decode_rows(head, binary, context.config, context.limits(parameters.n_samples))
    return head, InferRequest.of(parameters, outputs, rows, context)


def _draws(parameters: Parameters, outputs: Outputs) -> int:
    """The draws to compute: none unless an output has them. Raises BadInput for such an output without draws."""
    of_draws = [output for output in outputs.requested if output.source.part in OF_DRAWS]
    if of_draws and not parameters.draws:
        raise BadInput(
            [
                Fault(
                    pointer("outputs", output.place, "name"),
                    "no_draws",
                    f"output {output.name!r} has draws, and the parameter draws is 0, expected at least 1",
                )
                for output in of_draws[:MAX_FAULTS]
            ]
        )
    return parameters.draws if of_draws else 0


def _is_whole(value: Any) -> bool:
    return type(value) is float and value.is_integer()
