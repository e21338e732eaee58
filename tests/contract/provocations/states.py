"""Errors about the state of resources, by operation. Each request leaves the dump as the others need it."""

from tests.contract import error_requests
from tests.contract.error_target import Answer, Target
from tests.contract.provocations import valid_request
from tests.contract.provocations.case import Case, Provoke, ask, ask_about

TOO_LONG = "UPDATE model_versions SET description = hex(zeroblob(2500000))"


def _deleted_dataset(target: Target, case: Case) -> Answer:
    """A dataset that was deleted, and a cancelled run that would train on it."""
    body = {"dataset": {"name": "lines"}, "model": "m"}
    run = target.caller.call("POST", "/v1/runs", json=body)["id"]
    target.caller.call("POST", f"/v1/runs/{run}/cancel")
    target.caller.http.delete("/v1/datasets/lines?force=true").raise_for_status()
    request = {"json": body} if case.id == "create_run" else {}
    answer = target.ask(case.method, case.url(target, name="lines", run_id=run), **request)
    target.caller.call("POST", "/v1/datasets/lines/restore")
    return answer


def _waiting_dataset(target: Target, case: Case) -> Answer:
    """A dataset version that no worker converts, and its upload."""
    upload = target.caller.call("POST", "/v1/uploads", content=b'{"a": 1}\n')["id"]
    source = {"name": "waiting", "source": {"upload": upload}}
    version = target.caller.call("POST", "/v1/datasets", json=source)["version"]
    request = {"json": {"dataset": {"name": "waiting"}, "model": "m"}} if case.id == "create_run" else {}
    url = case.url(target, name="waiting", version=str(version), upload_id=upload)
    return target.ask(case.method, url, **request)


def _full_queue(target: Target, case: Case) -> Answer:
    """The project may have as many queued runs as it has."""
    path = f"/v1/projects/{error_requests.own_project(target)}"
    target.caller.call("PATCH", path, json={"quotas": {"queued_runs": 1}})
    answer = valid_request.send(target, case)
    target.caller.call("PATCH", path, json={"quotas": None})
    return answer


def _no_runs(target: Target, case: Case) -> Answer:
    return valid_request.send(target, case, caller=target.tenant(f"idle-{case.id}", queued_runs=0))


def _full_project(target: Target, case: Case) -> Answer:
    """A project that stores as many bytes as it may."""
    full = target.tenant(f"full-{case.id}", stored_bytes=9)
    full.call("POST", "/v1/uploads", content=b'{"a": 1}\n')
    request = {"content": b'{"a": 2}\n'} if case.id == "import_model" else {}
    return valid_request.send(target, case, caller=full, **request)


def _key_reused(target: Target, case: Case) -> Answer:
    """The key of a request in the dump."""
    return valid_request.send(target, case, headers={"Idempotency-Key": "queue it once"})


def _large_manifest(target: Target, case: Case) -> Answer:
    target.execute(TOO_LONG)
    answer = valid_request.send(target, case)
    target.execute("UPDATE model_versions SET description = NULL")
    return answer


def _taken_name(target: Target, case: Case) -> Answer:
    name = target.stranger.call("GET", "/v1/whoami")["project"]["name"]
    url = case.url(target, project_id=error_requests.own_project(target))
    return target.ask(case.method, url, json={"name": name})


def _alone(name: str) -> Provoke:
    """The request of an error that one operation has."""
    return lambda target, _: error_requests.LIMITED[name](target)


_ALONE = {
    "create_api_key": ["key_outlives_its_maker"],
    "delete_model_version": ["version_in_use"],
    "delete_project": ["own_project", "project_in_use", "project_not_deleted"],
    "put_alias": ["alias_exists", "alias_missing", "too_many_aliases"],
}

STATES: dict[str | tuple[str, str], Provoke] = {
    "dataset_deleted": _deleted_dataset,
    "dataset_in_use": ask_about(name="moves"),
    "dataset_not_ready": _waiting_dataset,
    "idempotency_key_reused": _key_reused,
    "job_has_ended": ask_about(run_id="{succeeded}"),
    "manifest_too_large": _large_manifest,
    "project_exists": _taken_name,
    "quota_exceeded": _full_project,
    "revision_mismatch": ask(json={"version": 1}, headers={"If-Match": '"99"'}),
    "run_cannot_be_retried": ask_about(run_id="{running}"),
    "run_has_not_ended": ask_about(run_id="{queued}"),
    "runs_not_allowed": _no_runs,
    "too_many_queued_runs": _full_queue,
    "too_ragged_for_npz": ask_about("?format=npz", name="moves"),
    "upload_in_use": _waiting_dataset,
    "upload_too_large": ask(content=b" " * 100_001),
    ("list_events", "events_pruned"): _alone("events_pruned"),
    **{(operation, code): _alone(code) for operation, codes in _ALONE.items() for code in codes},
}
"""By code, or by operation and code."""
