"""One request or more for every error code that a request alone can provoke, over the upgrade fixture's SQLite dump."""

import gzip
import socket
import sqlite3
from collections.abc import Callable
from typing import Any

from tests.contract.error_target import ANSWER_SECONDS, Answer, Target, above_the_limit, read
from tests.e2e.stack import Caller

SMALL_LIMITS = {
    "SENSORIUM_UPLOAD_BYTES": "100000",
    "SENSORIUM_REQUEST_BYTES": "200000",
    "SENSORIUM_UNPACKED_BYTES": "100",
}
NO_ROOM = {"SENSORIUM_INFERENCE_MEMORY_BYTES": "1", "SENSORIUM_RESERVE_BYTES": str(10**15)}

NOT_STORED = {
    "body_not_read": "the process that parses large bodies must be killed",
    "client_gone": "the client has closed its connection and reads no answer (test_batcher)",
    "database_unavailable": "the database must be away",
    "engine_busy": "requests must wait at the same moment",
    "inference_unavailable": "needs Redis",
    "manifest_too_large": "a description of megabytes",
    "misconfigured": "ends a process that starts, and is no answer (test_cli)",
    "rows_too_large": "rows of half a gigabyte",
    "storage_unavailable": "needs a bucket",
}
"""The codes without a stored answer. Those that are answers are provoked for every operation, in `provocations`."""

# One byte more than the server accepts: with more than that it could close the connection before all of it was read,
# and the client would not get the answer.
MAX_HEAD_BYTES, MAX_FRAMING_BYTES = 64 * 1024, 16 * 1024

Request = Callable[[Target], Answer]
SMALL, MOVES, V2 = "/v1/models/small/versions/1", "/v1/models/moves/versions/1", "/v2/models/small/versions/1/infer"
ENCODE = {"inputs": {"audio": [[1, 1, 1]]}}
TENSOR = {"name": "audio", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}
JSON = {"Content-Type": "application/json"}


def _ask(method: str, path: str, **request: Any) -> Request:
    return lambda target: target.ask(method, path.format(**_named(target)), **request)


def _named(target: Target) -> dict[str, str]:
    """The runs of the dump by their states."""
    return {name: run for name, run in target.known.items() if isinstance(run, str)}


def _raw(*pieces: bytes) -> Request:
    return lambda target: target.raw(*pieces)


def _trailers(target: Target) -> Answer:
    """A trailer behind a body without content; it is sent when the server has asked for the body."""
    url, key = target.caller.http.base_url, target.known["key"]
    head = f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection((url.host, url.port or 80), timeout=ANSWER_SECONDS) as client:
        client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"0\r\nA: ".ljust(MAX_FRAMING_BYTES + 1, b"x"))
        return read(client)


def _rate_limited(target: Target) -> Answer:
    quotas = {"requests_per_minute": 1}
    token = target.caller.call("POST", "/v1/projects", json={"name": "slow", "quotas": quotas})["token"]
    slow = Caller(str(target.caller.http.base_url), token)
    return above_the_limit(lambda: target.ask("GET", "/v1/runs", slow))


def _quota(target: Target) -> Answer:
    """A second file of a project that may store the first one."""
    body = {"name": "full", "quotas": {"stored_bytes": 9}}
    full = Caller(str(target.caller.http.base_url), target.caller.call("POST", "/v1/projects", json=body)["token"])
    full.call("POST", "/v1/uploads", content=b'{"a": 1}\n')
    return target.ask("POST", "/v1/uploads", full, content=b'{"a": 2}\n')


def _full_queue(target: Target) -> Answer:
    """A paused run, resumed beyond the queue. A new key: the quotas of known keys are cached for a second."""
    body = {"name": "fresh", "scopes": ["read", "write"]}
    fresh = Caller(str(target.caller.http.base_url), target.caller.call("POST", "/v1/api-keys", json=body)["token"])
    connection = sqlite3.connect(target.database.removeprefix("sqlite:///"))
    connection.execute("UPDATE projects SET most_queued_runs = 1")
    connection.commit()
    answer = target.ask("POST", f"/v1/runs/{target.known['paused']}/resume", fresh)
    connection.execute("UPDATE projects SET most_queued_runs = NULL")
    connection.commit()
    connection.close()
    return answer


def _no_runs(target: Target) -> Answer:
    body = {"name": "idle", "quotas": {"queued_runs": 0}}
    idle = Caller(str(target.caller.http.base_url), target.caller.call("POST", "/v1/projects", json=body)["token"])
    return target.ask("POST", "/v1/runs", idle, json={"dataset": {"name": "small"}, "model": "m"})


def _too_many_rows(target: Target) -> Answer:
    """Two rows of a project that may send one at once."""
    body = {"name": "narrow", "quotas": {"request_rows": 1}}
    narrow = Caller(str(target.caller.http.base_url), target.caller.call("POST", "/v1/projects", json=body)["token"])
    narrow.call("POST", "/v1/bundles", content=target.caller.http.get(f"{SMALL}/export").content)
    return target.ask("POST", f"{SMALL}/encode", narrow, json={"inputs": {"audio": [[1, 1, 1]] * 2}})


def _administrator(target: Target) -> Caller:
    body = {"name": "administrator", "scopes": ["admin", "read"]}
    token = target.caller.call("POST", "/v1/api-keys", json=body)["token"]
    return Caller(str(target.caller.http.base_url), token)


def _outlives(target: Target) -> Answer:
    body = {"name": "brief", "scopes": ["admin", "read"], "expires_in_seconds": 1000}
    brief = Caller(str(target.caller.http.base_url), target.caller.call("POST", "/v1/api-keys", json=body)["token"])
    return target.ask("POST", "/v1/api-keys", brief, json={"name": "for ever", "scopes": ["read"]})


def _waiting_dataset(target: Target, *request: str) -> Answer:
    """A request about a dataset that is not converted yet, and its upload."""
    upload = target.caller.call("POST", "/v1/uploads", content=b'{"a": 1}\n')["id"]
    target.caller.call("POST", "/v1/datasets", json={"name": "waiting", "source": {"upload": upload}})
    return target.ask(request[0], request[1].format(upload=upload))


def _deleted_dataset(target: Target) -> Answer:
    target.caller.http.delete("/v1/datasets/slow?force=true").raise_for_status()
    return target.ask("POST", f"/v1/runs/{target.known['failed']}/retry")


def _too_many_aliases(target: Target) -> Answer:
    for number in range(99):
        target.caller.call("PUT", f"/v1/models/small/aliases/a{number}", json={"version": 1})
    return target.ask("PUT", "/v1/models/small/aliases/last", json={"version": 1})


def _corrupt(target: Target) -> Answer:
    """A stored dataset whose file has changed on the disk."""
    version = target.known["resources"]["/v1/datasets/lines/versions/1"]
    (path,) = (target.home / "artifacts").rglob(version["sha256"])
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
    return target.ask("GET", "/v1/datasets/lines/versions/1/content?format=jsonl")


def _pruned(target: Target) -> Answer:
    """The events after the last one that a reader has seen were deleted by their age; the next one has the id 30."""
    connection = sqlite3.connect(target.database.removeprefix("sqlite:///"))
    with connection:
        connection.execute("INSERT OR REPLACE INTO deleted_events (project_id, event_id) SELECT id, 29 FROM projects")
        connection.execute("DELETE FROM events")
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', 29)")
    connection.close()
    target.caller.call("POST", "/v1/uploads", content=b'{"a": 1}\n')
    return target.ask("GET", "/v1/events?after=17")


def _fault(target: Target) -> Answer:
    """A database that lacks a table: a fault of the installation."""
    connection = sqlite3.connect(target.database.removeprefix("sqlite:///"))
    connection.execute("ALTER TABLE job_logs RENAME TO gone")
    connection.close()
    return target.ask("GET", f"/v1/runs/{target.known['failed']}/logs")


def own_project(target: Target) -> str:
    """The id of the operator's project."""
    project: dict[str, str] = target.caller.call("GET", "/v1/whoami")["project"]
    return project["id"]


def _new_project(target: Target, name: str) -> str:
    project: dict[str, str] = target.caller.call("POST", "/v1/projects", json={"name": name})
    return project["id"]


def _project_in_use(target: Target) -> Answer:
    """A project that was deleted just now."""
    path = f"/v1/projects/{_new_project(target, 'left')}"
    target.caller.http.delete(path).raise_for_status()
    return target.ask("DELETE", f"{path}?purge=true")


def _project_not_deleted(target: Target) -> Answer:
    return target.ask("DELETE", f"/v1/projects/{_new_project(target, 'kept')}?purge=true")


LIMITED: dict[str, Request] = {
    "alias_exists": _ask("PUT", "/v1/models/small/aliases/live", json={"version": 1}, headers={"If-None-Match": "*"}),
    "alias_missing": _ask("PUT", "/v1/models/small/aliases/new", json={"version": 1}, headers={"If-Match": "*"}),
    "alias_not_found": _ask("GET", "/v1/models/small/aliases/nothing"),
    "alias_not_found--inference": _ask("POST", "/v1/models/small/aliases/nothing/encode", json=ENCODE),
    "api_key_not_found": _ask("DELETE", "/v1/api-keys/key_nothing"),
    "body_too_large": _ask("POST", "/v1/runs", content=b" " * 300_000, headers=JSON),
    "body_too_large--v2": _ask("POST", V2, content=gzip.compress(bytes(300_000)), headers={"Content-Encoding": "gzip"}),
    "checkpoint_not_found": _ask("GET", "/v1/runs/{paused}/checkpoints/999999/content"),
    "dataset_in_use": _ask("DELETE", "/v1/datasets/moves/versions/1"),
    "dataset_not_found": _ask("GET", "/v1/datasets/nothing"),
    "dataset_version_not_found": _ask("GET", "/v1/datasets/small/versions/99"),
    "dataset_not_ready": lambda target: _waiting_dataset(target, "GET", "/v1/datasets/waiting/versions/1/preview"),
    "upload_in_use": lambda target: _waiting_dataset(target, "DELETE", "/v1/uploads/{upload}"),
    "evaluation_of_run_not_found": _ask("GET", "/v1/runs/{failed}/evaluation"),
    "events_pruned": _pruned,
    "headers_too_large": _raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ".ljust(MAX_HEAD_BYTES + 1, b"x")),
    "idempotency_key_reused": _ask(
        "POST", "/v1/api-keys", json={"name": "other"}, headers={"Idempotency-Key": "make it once"}
    ),
    "insufficient_scope": lambda target: target.ask("POST", f"/v1/runs/{target.known['queued']}/cancel", target.reader),
    "insufficient_scope--v2": lambda target: target.ask("POST", V2, target.reader, json={"inputs": [TENSOR]}),
    "insufficient_scope--grant": lambda target: target.ask(
        "POST", "/v1/api-keys", _administrator(target), json={"name": "more", "scopes": ["write"]}
    ),
    "invalid_api_key": _ask("GET", "/v1/runs", headers={"Authorization": "Bearer sns_unknown"}),
    "invalid_api_key--v2": _ask("GET", "/v2/models/small", headers={"Authorization": "Bearer sns_unknown"}),
    "invalid_host": _raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"),
    "invalid_http": _raw(b"NOT HTTP\r\n\r\n"),
    "invalid_http--version": _raw(b"POST /v1/runs HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "invalid_input": _ask(
        "POST",
        "/v1/runs",
        json={"dataset": {"name": "small"}, "model": "m", "training": {"epochs": 0}, "seed": "x", "more": 1},
    ),
    "invalid_input--query": _ask("GET", "/v1/runs?page_size=0&state=lost"),
    "invalid_input--repeated-parameter": _ask("GET", "/v1/runs?page_size=1&page_size=2"),
    "invalid_input--unknown-parameter": _ask("GET", "/v1/runs?nothing=1"),
    "invalid_input--parameters": _ask("GET", "/v1/runs?page_size=0&state=lost&nothing=1&page_size=2&tag=%00"),
    "invalid_input--inference": _ask("POST", f"{SMALL}/encode", json={"inputs": {"audio": [[1, 1], "x"], "face": []}}),
    "invalid_input--field": _ask("POST", f"{SMALL}/encode", json={**ENCODE, "target": []}),
    "invalid_input--body": _ask("POST", f"{SMALL}/encode", content=b'{"inputs": {'),
    "invalid_input--v2": _ask("POST", V2, json={"inputs": [{**TENSOR, "shape": [1, 4]}]}),
    "invalid_input--v2-parameter": _ask("POST", V2, json={"inputs": [TENSOR], "parameters": {"seeds": 1}}),
    "invalid_page_token": _ask("GET", "/v1/runs?page_token=nothing"),
    "invalid_state": _ask("POST", f"{MOVES}/encode", json={"inputs": {"x": [[[0, 1]]]}, "state": "nothing"}),
    "job_has_ended": _ask("POST", "/v1/runs/{succeeded}/cancel"),
    "key_outlives_its_maker": _outlives,
    "method_not_allowed": _ask("DELETE", "/v1/runs"),
    "missing_api_key": _ask("GET", "/v1/runs", headers={"Authorization": ""}),
    "missing_api_key--v2": _ask("POST", V2, json={"inputs": [TENSOR]}, headers={"Authorization": ""}),
    "model_not_found": _ask("GET", "/v1/models/nothing"),
    "model_version_not_found": _ask("GET", "/v1/models/small/versions/99"),
    "model_version_not_found--inference": _ask("POST", "/v1/models/small/versions/99/encode", json=ENCODE),
    "model_version_not_found--v2": _ask("POST", "/v2/models/nothing/infer", json={"inputs": [TENSOR]}),
    "no_conditional": _ask("POST", f"{SMALL}/impute", json={**ENCODE, "draws": 1}),
    "not_found": _ask("GET", "/v1/nothing"),
    "not_json": _ask("POST", "/v1/runs", content=b'{"model": "\xff"}', headers=JSON),
    "operator_required": lambda target: target.ask("POST", "/v1/projects", target.stranger, json={"name": "mine"}),
    "own_project": lambda target: target.ask("DELETE", f"/v1/projects/{own_project(target)}"),
    "project_in_use": _project_in_use,
    "project_not_deleted": _project_not_deleted,
    "project_exists": _ask("POST", "/v1/projects", json={"name": "clinic"}),
    "project_not_found": lambda target: target.ask("GET", "/v1/audit-events?project_id=prj_nothing", target.stranger),
    "quota_exceeded": _quota,
    "range_not_satisfiable": _ask("GET", f"{SMALL}/export", headers={"Range": "bytes=99999999-"}),
    "rate_limited": _rate_limited,
    "request_timeout": _raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n"),
    "revision_mismatch": _ask("PUT", "/v1/models/small/aliases/live", json={"version": 1}, headers={"If-Match": '"9"'}),
    "run_cannot_be_retried": _ask("POST", "/v1/runs/{running}/retry"),
    "run_has_not_ended": _ask("DELETE", "/v1/runs/{queued}"),
    "run_not_found": _ask("GET", "/v1/runs/run_nothing"),
    "timed_out": _ask("POST", f"{SMALL}/encode", json={**ENCODE, "timeout_seconds": 1e-9}),
    "too_ragged_for_npz": _ask("GET", "/v1/datasets/moves/versions/1/content?format=npz"),
    "trailers_too_large": _trailers,
    "unsupported_content_encoding": _ask("POST", "/v1/runs", content=b"{}", headers={"Content-Encoding": "gzip"}),
    "unsupported_content_encoding--v2": _ask("POST", V2, content=b"{}", headers={"Content-Encoding": "br"}),
    "unsupported_media_type": _ask("POST", "/v1/runs", content=b"{}", headers={"Content-Type": "text/plain"}),
    "unsupported_transfer_encoding": _raw(
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    ),
    "upgrade_not_offered": _raw(
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}"
    ),
    "upload_not_found": _ask("GET", "/v1/uploads/upl_nothing"),
    "upload_too_large": _ask("POST", "/v1/uploads", content=b" " * 100_001),
    "version_in_use": _ask("DELETE", SMALL),
    "too_many_queued_runs": _full_queue,
    "dataset_deleted": _deleted_dataset,
    "runs_not_allowed": _no_runs,
    "too_many_aliases": _too_many_aliases,
    "too_many_rows": _too_many_rows,
    "artifact_corrupt": _corrupt,
}
"""Asked of an API with small limits, in this order. A name is a code, or a code and what is special about the case."""

WITHOUT_ROOM: dict[str, Request] = {
    "engine_out_of_memory": _ask("POST", f"{SMALL}/encode", json=ENCODE),
    "storage_full": _ask("POST", "/v1/uploads", content=b'{"a": 1}\n'),
    "internal_error": _fault,
}
"""Asked of an API that has no memory for a model and no space for a file."""
