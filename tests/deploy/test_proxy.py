"""The configuration of nginx limits slow and large requests as the API does without a proxy."""

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from service.http import protocol, refusals
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


def test_the_proxy_takes_heads_as_large_as_the_api() -> None:
    count, kilobytes = _setting("large_client_header_buffers").removesuffix("k").split()
    assert int(count) * int(kilobytes) * 1024 == refusals.MAX_HEAD_BYTES


def test_the_proxy_closes_slow_and_too_large_heads(tmp_path: Path) -> None:
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
        too_large = httpx.get(f"{url}/healthz", headers={"X-Fill": "x" * 17_000}, timeout=30)
        assert too_large.status_code == 400
