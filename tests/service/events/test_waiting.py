"""`wait`: the answer comes when a worker is done, when the time is over, or when the process stops."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from service.access import operations as access
from service.jobs import operations as jobs
from service.runs import lookup
from service.shared.database import Database
from tests.conftest import Service, wait_until
from tests.service.files import packed
from tests.service.inference.serving import api, api_process
from tests.service.steps import dataset, fault, pictures, queue_run, upload

APPLIED = "preference-applied"


@pytest.fixture(scope="module")
def database(service: Service) -> Iterator[Database]:
    """The service's database, as another process sees it; it has a dataset."""
    dataset(service, "d", **pictures())
    database = Database(service.settings.database_url)
    yield database
    database.close()


@pytest.fixture
def calls() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def is_waiting(service: Service) -> bool:
    return bool(service.http.app.state.feed._channels)  # type: ignore[attr-defined]


def change(database: Database, service: Service, run_id: str, transition: Any) -> None:
    """What another process does to a run."""
    with database.writer.begin() as session:
        transition(session, lookup.job_of(session, service.project_id, run_id))


@pytest.mark.parametrize(("transition", "state"), [(jobs.cancel, "cancelled"), (jobs.pause, "paused")])
def test_a_wait_ends_when_another_process_changes_the_state(
    service: Service, database: Database, calls: ThreadPoolExecutor, transition: Any, state: str
) -> None:
    run_id = queue_run(service, "d", "m")["id"]
    answer: Future[Any] = calls.submit(service.http.get, f"/v1/runs/{run_id}?wait=60")
    wait_until(lambda: is_waiting(service))
    change(database, service, run_id, transition)
    found = answer.result()
    assert (found.status_code, found.json()["state"], found.headers[APPLIED]) == (200, state, "wait=60")
    wait_until(lambda: not is_waiting(service))
    service.http.post(f"/v1/runs/{run_id}/cancel")


def test_a_change_that_does_not_settle_the_run_continues_the_wait(
    service: Service, database: Database, calls: ThreadPoolExecutor
) -> None:
    run_id = queue_run(service, "d", "m")["id"]
    answer: Future[Any] = calls.submit(service.http.get, f"/v1/runs/{run_id}?wait=60")
    wait_until(lambda: is_waiting(service))
    assert service.http.patch(f"/v1/runs/{run_id}", json={"tags": ["t"]}).status_code == 200
    service.work("train")
    found = answer.result().json()
    assert (found["state"], found["tags"]) == ("succeeded", ["t"])


def test_a_dataset_version_is_ready_in_the_answer_to_its_creation(
    service: Service, calls: ThreadPoolExecutor, database: Database
) -> None:
    body = {"name": "waited", "source": {"upload": upload(service, packed(**pictures()))}}
    with api(service.settings) as url:
        http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {service.key}"}, timeout=300)
        answer = calls.submit(http.post, "/v1/datasets", json=body, headers={"Prefer": "wait=60"})
        path = "/v1/datasets/waited/versions/1"
        wait_until(lambda: http.get(path).status_code == 200)
        assert http.get(path, params={"wait": 0}).json()["state"] == "validating"
        service.work("data")
        found = answer.result()
        assert (found.status_code, found.json()["state"], found.json()["rows"]) == (201, "ready", 100)
        assert (found.headers["location"], found.headers[APPLIED]) == (path, "wait=60")
        again = http.get(path, params={"wait": 600})
        assert (again.json(), again.headers[APPLIED]) == (found.json(), "wait=60")


def test_a_rejected_dataset_version_ends_the_wait(service: Service, calls: ThreadPoolExecutor) -> None:
    body = {"name": "bad", "source": {"upload": upload(service, b'{"x": 1}\n{"x": [1, 2]}\n')}}
    answer = calls.submit(service.http.post, "/v1/datasets?wait=60", json=body)
    wait_until(lambda: is_waiting(service))
    service.work("data")
    assert answer.result().json()["state"] == "rejected"


def test_a_worker_is_woken_before_the_wait(service: Service, calls: ThreadPoolExecutor, database: Database) -> None:
    messages = service.settings.queue_folder / "messages"
    before = set(messages.glob("*.msg"))
    body = {"dataset": {"name": "d"}, "model": "woken", "training": {"epochs": 1, "batch_size": 16}}
    answer = calls.submit(service.http.post, "/v1/runs", json=body, headers={"Prefer": "respond-async, WAIT = 60"})
    wait_until(lambda: is_waiting(service))
    assert set(messages.glob("*.msg")) - before
    service.work("train")
    found = answer.result()
    assert (found.status_code, found.json()["state"], found.headers[APPLIED]) == (201, "succeeded", "wait=60")


def test_a_wait_that_is_over_answers_the_state_as_it_is(service: Service, database: Database) -> None:
    run_id = queue_run(service, "d", "m")["id"]
    begun = time.monotonic()
    answer = service.http.get(f"/v1/runs/{run_id}?wait=1")
    assert time.monotonic() - begun >= 1
    assert (answer.status_code, answer.json()["state"], answer.headers[APPLIED]) == (200, "queued", "wait=1")
    assert service.http.get(f"/v1/runs/{run_id}?wait=0").headers[APPLIED] == "wait=0"
    assert APPLIED not in service.http.get(f"/v1/runs/{run_id}").headers
    wait_until(lambda: not is_waiting(service))
    service.http.post(f"/v1/runs/{run_id}/cancel")


@pytest.mark.parametrize(
    ("query", "prefer", "applied"),
    [
        ("?wait=61", None, "wait=60"),
        ("?wait=99999999999999999999", None, "wait=60"),
        ("", "wait=61", "wait=60"),
        ("", 'handling=strict, wait="7"; x=y, wait=8', "wait=7"),
        ("?wait=5", "wait=6", "wait=5"),
        ("", "respond-async", None),
        ("", "", None),
    ],
)
def test_a_longer_wait_is_cut_and_told(
    service: Service, database: Database, query: str, prefer: str | None, applied: str | None
) -> None:
    run_id = queue_run(service, "d", "m")["id"]
    service.http.post(f"/v1/runs/{run_id}/cancel")
    headers = {} if prefer is None else {"Prefer": prefer}
    answer = service.http.get(f"/v1/runs/{run_id}{query}", headers=headers)
    assert (answer.status_code, answer.headers.get(APPLIED)) == (200, applied)


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "inf", "nan", ""])
def test_wrong_waits_are_refused_with_their_place(service: Service, database: Database, value: str) -> None:
    run_id = queue_run(service, "d", "m")["id"]
    service.http.post(f"/v1/runs/{run_id}/cancel")
    for path in (f"/v1/runs/{run_id}", "/v1/datasets/d/versions/1"):
        assert fault(service.http.get(path, params={"wait": value}))[0] == "?wait"
        answer = service.http.get(path, headers={"Prefer": f"wait={value}"})
        assert fault(answer)[0] == "Prefer"
        assert value in answer.json()["detail"]
    body = {"dataset": {"name": "d"}, "model": "never"}
    assert fault(service.http.post("/v1/runs", params={"wait": value}, json=body))[0] == "?wait"
    assert fault(service.http.post("/v1/datasets", headers={"Prefer": f"wait={value}"}, json={}))
    assert service.http.get("/v1/runs?model=never").json()["runs"] == []


def test_a_run_that_does_not_exist_is_not_waited_for(service: Service, database: Database) -> None:
    assert service.http.get("/v1/runs/run_none?wait=60").status_code == 404
    assert service.http.get("/v1/datasets/d/versions/99?wait=60").status_code == 404


def test_a_repetition_may_wait_for_another_time(service: Service, database: Database) -> None:
    body = {"dataset": {"name": "d"}, "model": "once", "training": {"epochs": 1, "batch_size": 16}}
    headers = {"Idempotency-Key": "the same"}
    made = service.http.post("/v1/runs", json=body, headers=headers).json()
    service.http.post(f"/v1/runs/{made['id']}/cancel")
    again = service.http.post("/v1/runs?wait=5", json=body, headers=headers)
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (201, made["id"], "cancelled")
    assert again.headers["idempotent-replayed"] == "true"


def test_a_key_without_the_scope_read_waits_for_what_it_creates(service: Service, database: Database) -> None:
    with database.writer.begin() as session:
        _, token = access.create_key(session, service.project_id, "writes", ["write"])
    body = {"dataset": {"name": "d"}, "model": "m", "training": {"epochs": 1, "batch_size": 16}}
    begun = time.monotonic()
    answer = service.http.post("/v1/runs?wait=1", json=body, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["state"]) == (201, "queued")
    assert time.monotonic() - begun >= 1
    service.http.post(f"/v1/runs/{answer.json()['id']}/cancel")


def test_waits_hold_no_thread_and_no_session(service: Service, database: Database) -> None:
    """100 waits: more than the threads of a process, and more than its connections to the database."""
    run_id = queue_run(service, "d", "m")["id"]
    with api(service.settings) as url:
        headers = {"Authorization": f"Bearer {service.key}"}

        async def scenario() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=200)
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=300, limits=limits) as http:
                waits = [asyncio.create_task(http.get(f"/v1/runs/{run_id}?wait=60")) for _ in range(100)]
                for _ in range(20):
                    assert (await http.get("/v1/runs")).status_code == 200
                assert not any(wait.done() for wait in waits)
                assert (await http.post(f"/v1/runs/{run_id}/cancel")).status_code == 202
                return await asyncio.gather(*waits)

        answers = asyncio.run(scenario())
    assert {answer.json()["state"] for answer in answers} == {"cancelled"}


def test_a_process_that_stops_answers_its_waits(
    service: Service, database: Database, calls: ThreadPoolExecutor
) -> None:
    run_id = queue_run(service, "d", "m")["id"]
    with api_process(service.settings) as (url, pid):
        headers = {"Authorization": f"Bearer {service.key}"}
        http = httpx.Client(base_url=url, headers=headers, timeout=300)
        answer = calls.submit(http.get, f"/v1/runs/{run_id}?wait=60")
        # the request is counted when it is answered; until then the process has it
        wait_until(lambda: http.get("/v1/runs").status_code == 200)
        os.kill(pid, signal.SIGTERM)
        found = answer.result()
    assert (found.status_code, found.json()["state"], found.headers[APPLIED]) == (200, "queued", "wait=60")
    service.http.post(f"/v1/runs/{run_id}/cancel")
