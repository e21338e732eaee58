"""A key that is revoked, expires or loses its scope ends current event streams, downloads, uploads and waits."""

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import APIRouter, Query

from service.access import operations as access
from service.access.tables import ApiKey
from service.app import create_app
from service.http.authentication import AuthenticatedRoute
from service.http.protocol import BoundedProtocol
from service.http.query_parameters import QueryModel
from service.shared.database import Database, now
from tests.conftest import Service, wait_until
from tests.service.steps import dataset, pictures, queue_run

WITHIN_SECONDS = 20.0  # on a busy machine; on an idle one it takes less than 2 s


class WaitQuery(QueryModel):
    """How long the call waits."""

    seconds: float


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    """The address of the application, with one additional route, which waits."""
    app = create_app(service.settings)
    waits = APIRouter(tags=["inference"], route_class=AuthenticatedRoute)

    @waits.get("/v1/wait")
    async def wait(query: Annotated[WaitQuery, Query()]) -> dict[str, bool]:
        await asyncio.sleep(query.seconds)
        return {"secret": True}

    app.include_router(waits)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedProtocol, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def database(service: Service) -> Iterator[Database]:
    """The service's database, as another process sees it."""
    database = Database(service.settings.database_url)
    yield database
    database.close()


@pytest.fixture
def key(service: Service, database: Database) -> tuple[str, str]:
    """The id and the token of a key of the test's own."""
    with database.writer.begin() as session:
        made, token = access.create_key(session, service.project_id, "short-lived")
        return made.id, token


def revoke(key: ApiKey) -> None:
    key.revoked_at = now()  # type: ignore[assignment]


def expire(key: ApiKey) -> None:
    key.expires_at = now(-1.0)  # type: ignore[assignment]


def take_its_scope(key: ApiKey) -> None:
    key.scopes = ["infer"]


def end(database: Database, key_id: str, how: Callable[[ApiKey], None] = revoke) -> None:
    with database.writer.begin() as session:
        how(session.get_one(ApiKey, key_id))


@pytest.fixture(scope="module")
def run_id(service: Service) -> str:
    """A run that no worker takes, so that its events never end."""
    dataset(service, "followed", **pictures())
    found: str = queue_run(service, "followed", "m")["id"]
    return found


@pytest.mark.parametrize("how", [revoke, expire, take_its_scope])
def test_an_event_stream_ends_with_the_reason(
    url: str, database: Database, key: tuple[str, str], run_id: str, how: Callable[[ApiKey], None]
) -> None:
    headers = {"Authorization": f"Bearer {key[1]}", "Accept": "text/event-stream"}
    events: list[str] = []
    with httpx.stream("GET", f"{url}/v1/runs/{run_id}/events", headers=headers, timeout=WITHIN_SECONDS) as stream:
        for line in stream.iter_lines():
            events.append(line)
            if line == "event: queued":
                end(database, key[0], how)
    event, data = events[-3:-1]
    assert event == "event: access_ended"
    assert json.loads(data.removeprefix("data: "))["code"] == "invalid_api_key"
    assert not any(line.startswith("id: ") for line in events[-4:])
    expected = 403 if how is take_its_scope else 401
    wait_until(lambda: httpx.get(f"{url}/v1/runs/{run_id}", headers=headers).status_code == expected)


def test_the_stream_of_another_key_continues(url: str, database: Database, key: tuple[str, str], run_id: str) -> None:
    with database.writer.begin() as session:
        made, token = access.create_key(session, session.get_one(ApiKey, key[0]).project_id, "other")
        other = made.id
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    with httpx.stream("GET", f"{url}/v1/runs/{run_id}/events", headers=headers, timeout=WITHIN_SECONDS) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: queued"
        end(database, key[0])
        mine = {"Authorization": f"Bearer {key[1]}"}
        wait_until(lambda: httpx.get(f"{url}/v1/runs/{run_id}", headers=mine).status_code == 401)
        end(database, other)
        assert "event: access_ended" in list(lines)


def test_a_download_ends_early(url: str, service: Service, database: Database, key: tuple[str, str]) -> None:
    generated = {"name": "large", "source": {"generator": {"name": "quadratic_sinusoidal", "rows": 400_000}}}
    assert service.http.post("/v1/datasets", json=generated).status_code == 201
    service.work("data")
    path = "/v1/datasets/large/versions/1"
    size = service.http.get(path).json()["size_bytes"]
    place = urlsplit(url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(WITHIN_SECONDS)
        client.connect((place.hostname, place.port))
        request = f"GET {path}/content?format=stored HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key[1]}\r\n\r\n"
        client.sendall(request.encode())
        received = len(client.recv(1000))
        end(database, key[0])
        mine = {"Authorization": f"Bearer {key[1]}"}
        wait_until(lambda: httpx.get(f"{url}{path}", headers=mine).status_code == 401)
        while piece := client.recv(65536):
            received += len(piece)
    assert received < size


def test_an_upload_is_refused_during_its_body_and_not_stored(
    url: str, service: Service, database: Database, key: tuple[str, str]
) -> None:
    before = service.http.get("/v1/uploads").json()
    place = urlsplit(url)
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key[1]}\r\n"
        "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    piece = b'9\r\n{"x": 1}\n\r\n'
    with socket.create_connection((place.hostname, place.port), WITHIN_SECONDS) as client:
        client.sendall(head.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")  # the route reads the body
        client.sendall(piece)
        end(database, key[0])
        until = time.monotonic() + WITHIN_SECONDS
        while not select.select([client], [], [], 0.05)[0] and time.monotonic() < until:
            client.sendall(piece)
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'"invalid_api_key"' in answer
    assert service.http.get("/v1/uploads").json() == before


def test_a_waiting_request_is_refused(url: str, database: Database, key: tuple[str, str]) -> None:
    headers = {"Authorization": f"Bearer {key[1]}"}
    timer = threading.Timer(0.2, end, (database, key[0]))
    timer.start()
    answer = httpx.get(f"{url}/v1/wait?seconds=3", headers=headers, timeout=WITHIN_SECONDS)
    timer.join()
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")
