"""The configuration of nginx limits slow and large requests as the API does without a proxy."""

import re
import socket
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from service.http import protocol, refusals
from service.http.problems import Problem
from tests.conftest import need
from tests.e2e.proxy import PROXY, binary, proxy
from tests.servers import free_port

LOCATIONS = (PROXY / "locations.conf").read_text()


def _setting(name: str) -> str:
    found = re.search(rf"^{name} ([^;]+);", LOCATIONS, re.MULTILINE)
    assert found is not None, f"locations.conf does not set {name}"
    return found[1]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("client_header_timeout", protocol.HEAD_SECONDS),
        ("client_body_timeout", protocol.BODY_SECONDS),
        ("send_timeout", protocol.UNREAD_SECONDS),
    ],
)
def test_the_proxy_waits_for_clients_as_long_as_the_api(name: str, seconds: float) -> None:
    assert _setting(name) == f"{seconds:.0f}s"


def test_the_proxy_accepts_heads_as_large_as_the_api() -> None:
    count, kilobytes = _setting("large_client_header_buffers").removesuffix("k").split()
    assert int(count) * int(kilobytes) * 1024 == refusals.MAX_HEAD_BYTES


def test_the_proxy_closes_connections_with_slow_heads(tmp_path: Path) -> None:
    need(binary(), "nginx")
    quick = tmp_path / "locations.conf"
    quick.write_text(
        LOCATIONS.replace(f"client_header_timeout {_setting('client_header_timeout')}", "client_header_timeout 1s")
    )
    with proxy(tmp_path / "nginx", [free_port()], quick) as url:
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port), 30) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            assert client.recv(65536) == b""
        fits = httpx.get(f"{url}/healthz", headers={"X-Fill": "x" * 15_000}, timeout=30)
        assert fits.status_code == 503  # no API process runs behind the proxy


REFUSED = {
    "unreadable": (b"nonsense\r\n\r\n", 400, "invalid_http"),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    "long header": (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Fill: %b\r\n\r\n" % (b"x" * 17_000),
        431,
        "headers_too_large",
    ),
    "long path": (b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 17_000), 431, "headers_too_large"),
    "large body": (b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\n\r\n", 413, "body_too_large"),
    "metrics": (b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"),
}


def test_the_proxy_refuses_requests_with_problems_like_the_api(tmp_path: Path) -> None:
    need(binary(), "nginx")
    with proxy(tmp_path / "nginx", [free_port()]) as url:
        place = urlsplit(url)
        for name, (sent, status, code) in REFUSED.items():
            with socket.create_connection((place.hostname, place.port), 30) as client:
                client.sendall(sent)
                answer = b"".join(iter(partial(client.recv, 65536), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status), name
            assert b"content-type: application/problem+json" in head.lower(), name
            problem = Problem.model_validate_json(body)
            assert (problem.status, problem.code) == (status, code), name
