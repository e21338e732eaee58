"""Requests that are too large, too slow or not HTTP/1.1 are refused before routing; over a real socket."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from service.app import create_app
from service.http import protocol
from service.http.protocol import BoundedProtocol
from tests.conftest import Service, wait_until

Address = tuple[str, int]


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[Address]:
    """The address of the application, with the protocol that `sensorium api` uses."""
    with listening(
        uvicorn.Config(create_app(service.settings), http=BoundedProtocol, ws="none", log_config=None)
    ) as place:
        yield place


@contextmanager
def listening(config: uvicorn.Config) -> Iterator[Address]:
    """A server in a separate thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    yield listener.getsockname()
    server.should_exit = True
    thread.join()


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


def answer(client: socket.socket) -> str:
    """All bytes until the server closes the connection."""
    client.settimeout(10)
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received.decode()


def answered(address: Address, *pieces: bytes) -> str:
    """The response to these bytes until the server closes the connection."""
    with socket.create_connection(address) as client:
        for piece in pieces:
            client.sendall(piece)
        return answer(client)


def statuses(answers: str) -> list[int]:
    return [int(status) for status in re.findall(r"HTTP/1.1 (\d+) ", answers)]


def sent_until_closed(client: socket.socket, piece: bytes, max_pieces: int) -> int:
    """How many of these pieces a server takes before it closes the connection."""
    client.settimeout(10)
    for number in range(max_pieces):
        try:
            client.sendall(piece)
        except OSError:
            return number
    return max_pieces


def test_an_endless_header_is_refused(address: Address) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        for _ in range(3):
            client.sendall(b"x" * 30_000)
        assert answer(client).startswith("HTTP/1.1 431 ")


def test_too_many_small_headers_are_refused(address: Address) -> None:
    with socket.create_connection(address) as client:
        client.sendall(GET + b"A: b\r\n" * 20_000)
        assert answer(client).startswith("HTTP/1.1 431 ")


def test_slow_headers_end_the_connection(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        assert answer(client).startswith("HTTP/1.1 408 ")


def test_a_silent_connection_is_closed(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with socket.create_connection(address) as client:
        assert answer(client).startswith("HTTP/1.1 408 ")


def test_a_stalled_body_ends_the_connection(
    address: Address, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.3)
    head = f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(address) as client:
        client.sendall(head.encode() + b"{")
        client.settimeout(10)
        assert client.recv(65536).decode().startswith("HTTP/1.1 408 ")


def test_one_connection_serves_many_requests(address: Address) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Fill: " + b"x" * 20_000 + b"\r\n\r\n"
    with socket.create_connection(address) as client:
        client.settimeout(10)
        for _ in range(10):
            client.sendall(request)
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):
                answer += client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")


def test_answers_have_security_headers(service: Service) -> None:
    answer = service.http.get("/v1/runs", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    page = service.http.get("/docs").headers
    assert (page["x-frame-options"], page["x-content-type-options"]) == ("DENY", "nosniff")


def test_an_encoded_body_is_refused(service: Service) -> None:
    answer = service.http.post("/v1/runs", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize("answered_before", [False, True], ids=["with a key", "without"])
@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"0\r\nA: ", b"x" * 65536),
        (b"0\r\n", b"a: b\r\n" * 10_000),
        (b"1;", b"x" * 65536),
        (b"", b"0" * 65536),
        (b"", b"1;" + b"x" * 200 + b"\r\na\r\n"),
    ],
    ids=["long trailer", "many trailers", "chunk extension", "zeros of a chunk size", "extension of each chunk"],
)
def test_the_framing_of_a_chunked_body_is_limited(
    address: Address, service: Service, begin: bytes, piece: bytes, answered_before: bool
) -> None:
    key = b"" if answered_before else f"Authorization: Bearer {service.key}\r\n".encode()
    with socket.create_connection(address) as client:
        client.sendall(CHUNKED + key + b"\r\n" + begin)
        # the server reads 16 KiB; the client can send as much as the buffers of both sockets hold
        assert sent_until_closed(client, piece, 20_000) * len(piece) < 16 * 1024**2


def test_too_large_trailers_are_refused_with_a_problem(address: Address, service: Service) -> None:
    key = f"Authorization: Bearer {service.key}\r\n".encode()
    with socket.create_connection(address) as client:
        client.sendall(CHUNKED + key + b"\r\n1\r\n{\r\n0\r\n")
        wait_until(lambda: client.send(b"A: b\r\n" * 100) and _has_answer(client))
        head, _, body = answer(client).partition("\r\n\r\n")
    assert statuses(head) == [431]
    assert "application/problem+json" in head
    assert json.loads(body)["code"] == "trailers_too_large"


def _has_answer(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        return client.recv(1, socket.MSG_PEEK) != b""
    except TimeoutError:
        return False


def test_slow_trailers_end_the_connection(address: Address, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.3)
    key = f"Authorization: Bearer {service.key}\r\n".encode()
    with socket.create_connection(address) as client:
        client.sendall(CHUNKED + key + b"\r\n1\r\n{\r\n0\r\nA: ")
        wait_until(lambda: client.send(b"x") and _has_answer(client))
        assert statuses(answer(client)) == [408]


def test_the_rest_of_a_body_after_its_answer_has_a_time_limit(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.3)
    with socket.create_connection(address) as client:
        client.sendall(CHUNKED + b"\r\n")
        wait_until(lambda: _has_answer(client))
        assert statuses(client.recv(65536).decode()) == [401]
        wait_until(lambda: sent_until_closed(client, b"1\r\nx\r\n", 1) == 0, what="the end of the connection")
        assert sent_until_closed(client, b"1\r\nx\r\n", 1) == 0


def test_trailers_are_no_headers(address: Address, service: Service) -> None:
    trailers = f"0\r\nAuthorization: Bearer {service.key}\r\nX-Request-ID: forged\r\n\r\n".encode()
    answers = answered(address, CHUNKED + b"\r\n2\r\n{}\r\n" + trailers + GET + b"Connection: close\r\n\r\n")
    assert statuses(answers) == [401, 200]
    assert "forged" not in answers


def test_a_body_in_chunks_of_one_byte_with_trailers_is_read(address: Address, service: Service) -> None:
    body = json.dumps({"name": "x" * 20_000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\nDigest: x\r\n\r\n"
    key = f"Authorization: Bearer {service.key}\r\nContent-Type: application/json\r\nConnection: close\r\n".encode()
    answers = answered(address, CHUNKED + key + b"\r\n", chunks)
    assert statuses(answers) == [422]
    assert "/model" in answers


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /healthz HTTP/1.1\r\n", 400, "invalid_host"),
        (GET + b"Host: x\r\n", 400, "invalid_host"),
        (GET + b"Host: y\r\n", 400, "invalid_host"),
        (b"GET /healthz HTTP/1.1\r\nHost: a b\r\n", 400, "invalid_host"),
        (b"GET /healthz HTTP/1.1\r\nHost: user@x\r\n", 400, "invalid_host"),
        (b"GET /healthz HTTP/1.1\r\nHost: x/y\r\n", 400, "invalid_host"),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n", 400, "invalid_http"),
        (b"GET /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400, "invalid_http"),
        (b"GET /healthz HTTP/0.9\r\n", 400, "invalid_http"),
        (GET + b"Transfer-Encoding: gzip, chunked\r\n", 501, "unsupported_transfer_encoding"),
        (GET + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501, "unsupported_transfer_encoding"),
        # the end of the body is unknown unless `chunked` is the last coding
        (GET + b"Transfer-Encoding: gzip\r\n", 400, "invalid_http"),
        (GET + b"Transfer-Encoding: chunked, gzip\r\n", 400, "invalid_http"),
        (GET + b"Transfer-Encoding: chunked, chunked\r\n", 400, "invalid_http"),
        (GET + b"Transfer-Encoding: identity\r\n", 400, "invalid_http"),
        (GET + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400, "invalid_http"),
        (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400, "invalid_http"),
        (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n", 400, "invalid_http"),
        (GET + b"Content-Length: +1\r\n", 400, "invalid_http"),
        (GET + b"Content-Length: 1,1\r\n", 400, "invalid_http"),
        (GET + b"Content-Length: 99999999999999999999\r\n", 400, "invalid_http"),
        (GET + b"A: b\r\n c\r\n", 400, "invalid_http"),
        (GET + b"A : b\r\n", 400, "invalid_http"),
        (GET + b"A: a\0b\r\n", 400, "invalid_http"),
        (GET + b"A: a\rb\r\n", 400, "invalid_http"),
        (b"GET /healthz HTTP/1.1\nHost: x\n", 400, "invalid_http"),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n", 400, "invalid_http"),
        (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n", 400, "upgrade_not_offered"),
    ],
)
def test_a_head_that_is_not_http_is_refused_and_ends_the_connection(
    address: Address, head: bytes, status: int, code: str
) -> None:
    answers = answered(address, head + b"\r\n")
    assert statuses(answers) == [status]
    assert json.loads(answers.partition("\r\n\r\n")[2])["code"] == code


@pytest.mark.parametrize("host", [b"", b"x", b"x:1", b"10.0.0.1:8000", b"[::1]:8000", b"a-b.example."])
def test_a_host_may_be_a_name_an_address_or_empty(address: Address, host: bytes) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    assert statuses(answered(address, head)) == [200]


def test_http_1_0_needs_no_host_and_gets_no_interim_answer(address: Address) -> None:
    head = b"POST /v1/runs HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
    assert statuses(answered(address, head)) == [401]


def test_a_request_without_a_key_gets_no_100_continue(address: Address, service: Service) -> None:
    head = b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n"
    assert statuses(answered(address, head + b"\r\n")) == [401]
    key = f"Authorization: Bearer {service.key}\r\nContent-Type: application/json\r\n\r\n".encode()
    assert statuses(answered(address, head + key, b"{}")) == [100, 422]


def test_the_body_of_a_request_that_asks_to_upgrade_is_not_the_next_request(address: Address) -> None:
    hidden = GET + b"X-Request-ID: hidden\r\n\r\n"
    upgrade = b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    with socket.create_connection(address) as client:
        client.sendall(upgrade + f"Content-Length: {len(hidden)}\r\n\r\n".encode())
        wait_until(lambda: _has_answer(client))
        sent_until_closed(client, hidden, 1)
        try:
            answers = answer(client)
        except ConnectionResetError:  # the server closed the connection before the rest was sent
            return
    assert statuses(answers) == [400]


def test_a_request_for_an_upgrade_is_answered_without_one(address: Address) -> None:
    upgrade = (
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
    )
    assert statuses(answered(address, upgrade + b"\r\n")) == [200]


def test_the_body_of_a_get_is_ignored(address: Address) -> None:
    hidden = b"GET /v1/runs HTTP/1.1\r\nHost: x\r\n\r\n"
    with_body = GET + f"Content-Length: {len(hidden)}\r\n\r\n".encode() + hidden
    assert statuses(answered(address, with_body + GET + b"Connection: close\r\n\r\n")) == [200, 200]


def test_a_fault_in_a_pipelined_request_is_answered_after_the_previous_answer(address: Address) -> None:
    assert statuses(answered(address, GET + b"\r\nnot http\r\n\r\n")) == [200]


def test_pipelined_requests_are_limited(address: Address) -> None:
    answers = answered(address, (GET + b"\r\n") * 1000)
    assert statuses(answers) == [200] * (1 + protocol.MAX_PIPELINED)


def test_line_breaks_between_requests_do_not_keep_a_connection(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with socket.create_connection(address) as client:
        client.sendall(GET + b"\r\n")
        wait_until(lambda: _has_answer(client))
        client.sendall(b"\r\n")
        assert statuses(answer(client)) == [200, 408]


def test_an_unread_answer_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    gone = threading.Event()

    async def endless(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not scope[protocol.IS_GONE]():
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        gone.set()

    config = uvicorn.Config(endless, http=BoundedProtocol, lifespan="off", log_config=None)
    with listening(config) as address, socket.create_connection(address) as client:
        client.sendall(GET + b"\r\n")
        assert gone.wait(30)
