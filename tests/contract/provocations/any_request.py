"""Errors that many operations have: of HTTP, authentication, limits and bodies. Each request fits any operation."""

import socket

from tests.contract.error_requests import MAX_FRAMING_BYTES, MAX_HEAD_BYTES
from tests.contract.error_target import ANSWER_SECONDS, Answer, Target, above_the_limit, read
from tests.contract.provocations.case import JSON, Case, Provoke, ask, ask_about
from tests.contract.provocations.valid_request import BODIES
from tests.e2e.stack import Caller


def _raw(head: str, size: int = 0, version: str = "1.1") -> Provoke:
    def provoke(target: Target, case: Case) -> Answer:
        line = f"{case.method} {case.url(target)} HTTP/{version}\r\n{head}"
        return target.raw(line.encode().ljust(size, b"x"))

    return provoke


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
    slow = target.tenant(f"slow-{case.id}", requests_per_minute=1)
    return above_the_limit(lambda: target.ask(case.method, case.url(target), slow))


def _not_operating(target: Target, case: Case) -> Answer:
    """A key of a project that does not operate, about its own project."""
    own = target.stranger.call("GET", "/v1/whoami")["project"]["id"]
    body = {"name": "other", "quotas": None} if case.id == "change_project" else BODIES.get(case.id)
    return target.ask(case.method, case.url(target, project_id=own), target.stranger, json=body)


def unknown_key(target: Target, case: Case) -> Answer:
    """A key that is not cached, so that the database is asked for it."""
    headers = {"Authorization": "Bearer sns_0123456789ab_unknown", "Connection": "close"}
    return target.ask(case.method, case.url(target), headers=headers)


def unfinished(target: Target, case: Case) -> Answer:
    """A request whose head never ends."""
    return _raw("Host: x\r\n")(target, case)


ANY_REQUEST: dict[str, Provoke] = {
    "body_too_large": ask(content=b" " * 300_000, headers=JSON),
    "headers_too_large": _raw("Host: x\r\nA: ", MAX_HEAD_BYTES + 1),
    "insufficient_scope": _without_scope,
    "invalid_api_key": ask(headers={"Authorization": "Bearer sns_unknown"}),
    "invalid_host": _raw("Host: a\r\nHost: b\r\nConnection: close\r\n\r\n"),
    "invalid_http": _raw("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", version="1.0"),
    "invalid_input": ask_about("?nothing=1"),
    "invalid_page_token": ask_about("?page_token=nothing"),
    "missing_api_key": ask(headers={"Authorization": ""}),
    "not_json": ask(content=b'{"model": "\xff"}', headers=JSON),
    "operator_required": _not_operating,
    "rate_limited": _rate_limited,
    "trailers_too_large": _trailers,
    "unsupported_content_encoding": ask(headers={"Content-Encoding": "br"}),
    "unsupported_media_type": ask(content=b"{}", headers={"Content-Type": "text/plain"}),
    "unsupported_transfer_encoding": _raw("Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "upgrade_not_offered": _raw("Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}"),
}
"""By code."""
