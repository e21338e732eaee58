"""A run's events as a browser's EventSource follows them: over a real server, with its headers, until the end."""

import itertools
from collections.abc import Iterator

import httpx2 as httpx
import numpy as np
import pytest

from tests.conftest import Service
from tests.service.inference.serving import api
from tests.service.steps import dataset, problem, queue_run, train

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    """A client of a real server over the module's database, which has a dataset."""
    generator = np.random.default_rng(0)
    dataset(service, "d", a=generator.random((60, 2)), b=generator.random((60, 1)))
    with api(service.settings) as url:
        yield httpx.Client(base_url=url, headers={"Authorization": f"Bearer {service.key}"}, timeout=30)


@pytest.fixture(scope="module")
def ended(service: Service, http: httpx.Client) -> str:
    """The events of a run that has ended."""
    return f"/v1/runs/{train(service, 'd', 'm')['id']}/events"


def test_a_client_that_reconnects_after_the_last_event_gets_204(http: httpx.Client, ended: str) -> None:
    whole = http.get(ended, headers=STREAM)
    assert whole.status_code == 200
    ids = [line.removeprefix("id: ") for line in whole.text.splitlines() if line.startswith("id: ")]
    assert len(ids) >= 3
    again = http.get(ended, headers={**STREAM, "Last-Event-ID": ids[-1]})
    assert (again.status_code, again.content) == (204, b"")
    assert http.get(ended, headers=STREAM, params={"after": ids[-1]}).status_code == 204
    rest = http.get(ended, headers={**STREAM, "Last-Event-ID": ids[-2]})
    assert (rest.status_code, rest.text.count("id: ")) == (200, 1)


def test_an_empty_last_event_id_is_ignored(http: httpx.Client, ended: str) -> None:
    assert http.get(ended, headers={**STREAM, "Last-Event-ID": ""}).text == http.get(ended, headers=STREAM).text
    problem(http.get(ended, headers={**STREAM, "Last-Event-ID": "x"}), 422)


def test_after_the_last_event_the_json_list_is_empty(http: httpx.Client, ended: str) -> None:
    assert http.get(ended, params={"after": 2**40}).json() == {"events": [], "next_page_token": None}


def test_a_stream_of_a_run_that_waits_has_each_header_once(service: Service, http: httpx.Client) -> None:
    run = queue_run(service, "d", "m")["id"]
    newest = http.get(f"/v1/runs/{run}/events").json()["events"][-1]["id"]
    with http.stream("GET", f"/v1/runs/{run}/events", headers=STREAM) as answer:
        assert answer.status_code == 200
        names = [name.lower() for name, _ in answer.headers.raw]
        assert sorted(names) == sorted(set(names))
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        assert f"id: {newest}" in itertools.takewhile(bool, answer.iter_lines())
    with http.stream("GET", f"/v1/runs/{run}/events", headers={**STREAM, "Last-Event-ID": str(newest)}) as answer:
        assert answer.status_code == 200  # more will come
    service.http.post(f"/v1/runs/{run}/cancel")


def test_no_route_sends_a_header_twice(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    asked = 0
    for path, methods in document["paths"].items():
        for method in methods:
            filled = path.replace("{version}", "1").replace("{step}", "1")
            answer = http.request(method, filled.replace("{", "").replace("}", ""), json={})
            names = [name.lower() for name, _ in answer.headers.raw]
            assert sorted(names) == sorted(set(names)), (method, path)
            asked += 1
    for path in ("/docs", "/openapi.json", "/none"):
        names = [name.lower() for name, _ in http.get(path).headers.raw]
        assert sorted(names) == sorted(set(names)), path
    assert asked > 60
