"""Requests that are too large or too slow before any route sees them, over a real socket."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from service import http_protocol
from service.app import create_app
from service.http_protocol import BoundedProtocol
from tests.conftest import Service, wait_until

Address = tuple[str, int]


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[Address]:
    """Where the application listens, with the protocol that `sensorium api` uses."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(service.settings), http=BoundedProtocol, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    yield listener.getsockname()
    server.should_exit = True
    thread.join()


def answer(client: socket.socket) -> str:
    """All that comes until the server closes."""
    client.settimeout(10)
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received.decode()


def test_headers_without_end_are_refused(address: Address) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        for _ in range(3):
            client.sendall(b"x" * 30_000)
        assert answer(client).startswith("HTTP/1.1 431 ")


def test_many_small_headers_are_refused_too(address: Address) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 20_000)
        assert answer(client).startswith("HTTP/1.1 431 ")


def test_headers_that_trickle_in_are_not_waited_for(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    with socket.create_connection(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        assert answer(client).startswith("HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    with socket.create_connection(address) as client:
        assert answer(client).startswith("HTTP/1.1 408 ")


def test_a_body_that_stops_coming_is_not_waited_for(
    address: Address, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 0.3)
    head = f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(address) as client:
        client.sendall(head.encode() + b"{")
        client.settimeout(10)
        assert client.recv(65536).decode().startswith("HTTP/1.1 408 ")


def test_requests_of_any_number_share_a_connection(address: Address) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Fill: " + b"x" * 20_000 + b"\r\n\r\n"
    with socket.create_connection(address) as client:
        client.settimeout(10)
        for _ in range(10):
            client.sendall(request)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_answers_forbid_what_browsers_might_do(service: Service) -> None:
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
