"""HEAD on every path that has GET, over a real server."""

from collections.abc import Iterator

import httpx2 as httpx
import pytest

from tests.conftest import Service
from tests.service.inference.serving import api

PATHS = ["/v1/runs", "/v1/whoami", "/healthz", "/openapi.json", "/docs", "/v1/runs/run_none", "/v1/nothing"]


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with api(service.settings) as url, httpx.Client(base_url=url, headers=service.http.headers, timeout=60) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_as_get_without_a_body(client: httpx.Client, path: str) -> None:
    whole, asked = client.get(path), client.head(path)
    assert (asked.status_code, asked.content) == (whole.status_code, b"")
    own = {"x-request-id", "date"}
    assert {name: value for name, value in asked.headers.items() if name not in own | {"content-length"}} == {
        name: value for name, value in whole.headers.items() if name not in own | {"content-length"}
    }
    if whole.is_success:
        assert asked.headers["content-length"] == str(len(whole.content))


def test_head_of_a_stream_ends(client: httpx.Client) -> None:
    asked = client.head("/v1/events", headers={"Accept": "text/event-stream"})
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-type"].startswith("text/event-stream")
    assert client.get("/v1/whoami").is_success  # on the same connection


def test_head_needs_a_key_and_a_path_with_get(client: httpx.Client) -> None:
    assert client.head("/v1/runs", headers={"Authorization": "Bearer sns_unknown"}).status_code == 401
    for path in ("/v1/models/m/versions/1/reconstruct", "/v1/runs/run_1/cancel"):
        refused = client.head(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert client.post("/v1/events").headers["allow"] == "GET, HEAD"
    assert "the method is DELETE, expected one of GET, HEAD, POST" in client.delete("/v1/runs").json()["detail"]
