"""Requests that provoke the errors which the OpenAPI document lists, over the upgrade fixture's SQLite dump.

`GENERIC` has a request per code, made from the operation alone, `SPECIFIC` one for an operation and a code. Codes
that neither has are provoked for one operation each, in `error_requests`.
"""

import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.contract.error_requests import (
    MAX_FRAMING_BYTES,
    MAX_HEAD_BYTES,
)
from tests.contract.error_target import ANSWER_SECONDS, Answer, Target, read
from tests.e2e.stack import Caller

JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"
BODIES: dict[str, Any] = {
    "create_api_key": {"name": "other"},
    "create_project": {"name": "other"},
    "create_run": {"dataset": {"name": "small"}, "model": "m"},
    "put_alias": {"version": 1},
    "change_project": {"name": "new"},
    "change_run": {"description": "new"},
    "change_model": {"description": "new"},
    "change_model_version": {"description": "new"},
    "cancel_runs": {"all": True},
}
"""A valid body for operations whose errors come after the body was read."""
MISSING = {
    "run_not_found": {"run_id": "run_nothing"},
    "checkpoint_not_found": {"step": "999999"},
    "project_not_found": {"project_id": "prj_nothing"},
    "upload_not_found": {"upload_id": "upl_nothing"},
    "api_key_not_found": {"key_id": "key_nothing"},
    "dataset_not_found": {"name": "nothing"},
    "dataset_version_not_found": {"name": "small", "version": "99"},
    "model_not_found": {"name": "nothing"},
    "model_version_not_found": {"version": "99"},
    "alias_not_found": {"alias": "nothing", "version": "nothing"},
    "not_found": {"code": "nothing"},
}
"""The parts of a path for which there is no resource, by code."""


class Case(NamedTuple):
    """An operation of the document, and one of its codes."""

    id: str
    method: str
    path: str
    operation: Any
    status: str
    code: str

    def url(self, target: Target, **parts: str) -> str:
        """The path with the names of existing resources, or the given ones."""
        known = {
            "run_id": target.known["paused"],
            "name": "small",
            "version": "1",
            "alias": "live",
            "step": "1",
            "upload_id": "upl_1",
            "key_id": "key_1",
            "project_id": "prj_1",
            "code": "not_found",
        }
        return self.path.format(**{**known, **parts})


def cases(document: Any) -> Iterator[Case]:
    """Every error of the document."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for code in response.get("content", {}).get(PROBLEM, {}).get("examples", ()):
                    yield Case(operation["operationId"], method.upper(), path, operation, status, code)


Provoke = Callable[[Target, Case], Answer]


def _with(**request: Any) -> Provoke:
    return lambda target, case: target.ask(case.method, case.url(target), **request)


def _query(query: str) -> Provoke:
    return lambda target, case: target.ask(case.method, f"{case.url(target)}?{query}")


def _raw(head: str, size: int = 0, version: str = "1.1") -> Provoke:
    def ask(target: Target, case: Case) -> Answer:
        line = f"{case.method} {case.url(target)} HTTP/{version}\r\n{head}"
        return target.raw(line.encode().ljust(size, b"x"))

    return ask


def _trailers(target: Target, case: Case) -> Answer:
    url, key = target.caller.http.base_url, target.known["key"]
    head = f"{case.method} {case.url(target)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    with socket.create_connection((url.host, url.port or 80), timeout=ANSWER_SECONDS) as client:
        chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        client.sendall(f"{head}{chunked}".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"0\r\nA: ".ljust(MAX_FRAMING_BYTES + 1, b"x"))
        return read(client)


def _without_scope(target: Target, case: Case) -> Answer:
    """A key with one scope that the operation does not need."""
    for scope in ("infer", "read"):
        token = target.caller.call("POST", "/v1/api-keys", json={"name": scope, "scopes": [scope]})["token"]
        answer = target.ask(case.method, case.url(target), Caller(str(target.caller.http.base_url), token))
        if answer[0] == 403:
            return answer
    return answer


def _rate_limited(target: Target, case: Case) -> Answer:
    body = {"name": f"slow-{case.id}", "quotas": {"requests_per_minute": 1}}
    token = target.caller.call("POST", "/v1/projects", json=body)["token"]
    slow = Caller(str(target.caller.http.base_url), token)
    return [target.ask(case.method, case.url(target), slow) for _ in range(2)][-1]


def _missing(target: Target, case: Case) -> Answer:
    body = {} if "requestBody" not in case.operation else {"json": BODIES.get(case.id, {})}
    parts = MISSING[case.code]
    if case.code == "model_version_not_found" and "{version}" not in case.path:  # the newest version of a model
        parts = {"name": "nothing"}
    return target.ask(case.method, case.url(target, **parts), **body)


def _not_operating(target: Target, case: Case) -> Answer:
    """A key of a project that does not operate, about its own project."""
    own = target.stranger.call("GET", "/v1/whoami")["project"]["id"]
    body = {"name": "other", "quotas": None} if case.id == "change_project" else BODIES.get(case.id)
    return target.ask(case.method, case.url(target, project_id=own), target.stranger, json=body)


GENERIC: dict[str, Provoke] = {
    "body_too_large": _with(content=b" " * 300_000, headers=JSON),
    "headers_too_large": _raw("Host: x\r\nA: ", MAX_HEAD_BYTES + 1),
    "insufficient_scope": _without_scope,
    "invalid_api_key": _with(headers={"Authorization": "Bearer sns_unknown"}),
    "invalid_host": _raw("Host: a\r\nHost: b\r\nConnection: close\r\n\r\n"),
    "invalid_http": _raw("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", version="1.0"),
    "invalid_input": _query("nothing=1"),
    "invalid_page_token": _query("page_token=nothing"),
    "missing_api_key": _with(headers={"Authorization": ""}),
    "not_json": _with(content=b'{"model": "\xff"}', headers=JSON),
    "operator_required": _not_operating,
    "rate_limited": _rate_limited,
    "trailers_too_large": _trailers,
    "unsupported_content_encoding": _with(headers={"Content-Encoding": "br"}),
    "unsupported_media_type": _with(content=b"{}", headers={"Content-Type": "text/plain"}),
    "unsupported_transfer_encoding": _raw("Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "upgrade_not_offered": _raw("Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}"),
    **dict.fromkeys(MISSING, _missing),
}

_RUN = {"dataset": {"name": "small"}, "model": "m"}
_UPLOAD = {"name": "new", "source": {"upload": "upl_nothing"}}


def _evaluation(target: Target, case: Case) -> Answer:
    return target.ask(case.method, case.url(target, run_id=target.known["failed"]))


def _checkpoint(target: Target, case: Case) -> Answer:
    return target.ask(case.method, case.url(target), json={"run": target.known["failed"], "step": 999_999})


def _taken_name(target: Target, case: Case) -> Answer:
    own = target.caller.call("GET", "/v1/whoami")["project"]["id"]
    name = target.stranger.call("GET", "/v1/whoami")["project"]["name"]
    return target.ask(case.method, case.url(target, project_id=own), json={"name": name})


SPECIFIC: dict[tuple[str, str], Provoke] = {
    ("compare_runs", "run_not_found"): _query("run=run_nothing&run=run_other"),
    ("create_dataset", "upload_not_found"): _with(json=_UPLOAD),
    ("create_model_version", "checkpoint_not_found"): _checkpoint,
    ("create_model_version", "run_not_found"): _with(json={"run": "run_nothing"}),
    ("change_project", "project_exists"): _taken_name,
    ("create_run", "dataset_not_found"): _with(json={**_RUN, "dataset": {"name": "nothing"}}),
    ("create_run", "dataset_version_not_found"): _with(json={**_RUN, "dataset": {"name": "small", "version": 99}}),
    ("create_run", "model_version_not_found"): _with(json={**_RUN, "init_from": {"model": "small", "version": 99}}),
    ("get_run_evaluation", "evaluation_of_run_not_found"): _evaluation,
    ("list_audit_events", "project_not_found"): lambda target, case: target.ask(
        case.method, f"{case.path}?project_id=prj_nothing", target.stranger
    ),
    ("put_alias", "model_version_not_found"): _with(json={"version": 99}),
}
"""Requests that one operation needs."""


def provoker(case: Case) -> Provoke | None:
    """The request that provokes an error; None for those of `PROVOKED_ELSEWHERE` and for those without one."""
    return SPECIFIC.get((case.id, case.code)) or GENERIC.get(case.code)


PROVOKED_ELSEWHERE = {
    "database_unavailable": "the database must be away (tests/chaos, test_database)",
    "internal_error": "the database must lack a table: of every operation, in `answers_of_a_broken_database`",
    "request_timeout": "of every operation at once, in `answers_of_slow_requests`",
    "storage_full": "a full disk: of every operation, in `answers_without_room`",
}


def answers_of_slow_requests(target: Target, slow: list[Case]) -> list[tuple[Case, Answer]]:
    """The answer to each request whose head never ends. The server waits 15 s for all of them together."""
    url = target.caller.http.base_url
    clients = [socket.create_connection((url.host, url.port or 80), timeout=ANSWER_SECONDS) for _ in slow]
    for case, client in zip(slow, clients, strict=True):
        client.sendall(f"{case.method} {case.url(target)} HTTP/1.1\r\nHost: x\r\n".encode())
    answers = [read(client) for client in clients]
    for client in clients:
        client.close()
    return list(zip(slow, answers, strict=True))
