"""A request of each operation that succeeds over the upgrade fixture's dump."""

from collections.abc import Mapping
from typing import Any

from models.io import bundle
from service.registry import bundles
from service.registry.schemas import ModelVersion
from tests.contract.error_target import Answer, Target
from tests.contract.provocations import model_requests
from tests.contract.provocations.case import Case

BODIES: Mapping[str, Any] = {
    "create_api_key": {"name": "other"},
    "create_project": {"name": "other"},
    "create_dataset": {"name": "new", "source": {"generator": {"name": "quadratic_sinusoidal", "rows": 10}}},
    "create_run": {"dataset": {"name": "small"}, "model": "m"},
    "put_alias": {"version": 1},
    "change_project": {"name": "new"},
    "change_run": {"description": "new"},
    "change_model": {"description": "new"},
    "change_model_version": {"description": "new"},
    "cancel_runs": {"all": True},
}
"""Valid bodies that name no run."""
CONTENTS = {"create_upload": b'{"a": 1}\n'}
"""Valid bodies that are files."""
QUERIES = {
    "compare_runs": "?run={failed}&run={succeeded}",
    "download_dataset": "?format=stored",
}
PARTS = {
    "cancel_run": {"run_id": "queued"},
    "delete_run": {"run_id": "failed"},
    "get_run_evaluation": {"run_id": "succeeded"},
    "pause_run": {"run_id": "running"},
    "resume_run": {"run_id": "paused"},
    "retry_run": {"run_id": "failed"},
    "delete_dataset": {"name": "lines"},
    "delete_model": {"name": "swapped"},
    "delete_model_version": {"name": "moves"},
    "restore_model": {"name": "gone"},
}
"""The parts of a path that differ from those of `Case.url`; runs are named by their states."""


def send(target: Target, case: Case, **request: Any) -> Answer:
    """Send the valid request of an operation, with these arguments of httpx."""
    if model_requests.asks_a_model(case):
        return model_requests.ask(target, case, **request)
    url = case.url(target, **_parts(target, case)) + QUERIES.get(case.id, "").format(**_runs(target))
    return target.ask(case.method, url, **{**_body(target, case), **request})


def bundle_of(target: Target) -> bytes:
    """The bundle of version 1 of the model `small`, of its local file."""
    version = ModelVersion.model_validate(target.caller.call("GET", "/v1/models/small/versions/1"))
    (file,) = (target.home / "artifacts").rglob(version.sha256)
    content = file.read_bytes()
    return bundle.prefix(bundles.manifest_of(version), len(content)) + content + bundle.suffix(len(content))


def _body(target: Target, case: Case) -> dict[str, Any]:
    if case.id == "import_model":
        return {"content": bundle_of(target)}
    if case.id == "create_model_version":
        return {"json": {"run": target.known["succeeded"]}}
    if case.id in CONTENTS:
        return {"content": CONTENTS[case.id]}
    return {"json": BODIES[case.id]} if case.id in BODIES else {}


def _parts(target: Target, case: Case) -> dict[str, str]:
    runs, parts = _runs(target), PARTS.get(case.id, {})
    own = {part: runs.get(value, value) for part, value in parts.items()}
    if "{step}" in case.path:
        steps = target.caller.call("GET", f"/v1/runs/{runs['paused']}/checkpoints")["checkpoints"]
        own["step"] = str(steps[0]["step"])
    if "{upload_id}" in case.path:
        own["upload_id"] = target.caller.call("GET", "/v1/uploads")["uploads"][0]["id"]
    if "{key_id}" in case.path:
        keys = target.caller.call("GET", "/v1/api-keys")["api_keys"]
        own["key_id"] = next(key["id"] for key in keys if key["name"] == "made once")
    if "{project_id}" in case.path:
        own["project_id"] = target.stranger.call("GET", "/v1/whoami")["project"]["id"]
    return own


def _runs(target: Target) -> dict[str, str]:
    """The runs of the dump, by their states."""
    return {name: value for name, value in target.known.items() if isinstance(value, str)}
