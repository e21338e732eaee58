"""Quotas of stored bytes and queued runs, also for concurrent requests and for the results of jobs."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from service.access.tables import Project
from service.runs import training
from service.runs.training import Origin
from service.shared import storage
from service.shared.errors import QuotaExceeded
from service.shared.settings import Settings
from service.shared.storage import Stored
from tests.conftest import Service, running
from tests.service.files import packed
from tests.service.rows import ready_dataset
from tests.service.steps import dataset, pictures, problem, queue_dataset, queue_run, upload

AT_ONCE = 6
QUEUED_RUNS = 3
QUOTA = 60_000


@pytest.fixture
def limited(empty_database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service with small quotas, on each database."""
    with running(_settings(tmp_path, empty_database_url)) as service:
        yield service


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Service]:
    """The same on SQLite only."""
    with running(_settings(tmp_path, None)) as service:
        yield service


def _settings(folder: Path, database: str | None) -> Settings:
    return Settings(
        home=folder,
        database=database,
        secret_key=SecretStr("k" * 32),
        project_stored_bytes=QUOTA,
        project_queued_runs=QUEUED_RUNS,
        heartbeat_seconds=0.2,
        retry_seconds=0,
    )


def noise(seed: int) -> bytes:
    """A file of about 20 kB, of which two fit into the quota and three do not."""
    return packed(x=np.random.default_rng(seed).normal(size=2600))


def at_once(work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, range(AT_ONCE)))


def stored(service: Service) -> int:
    with service.worker.database.reader() as session:
        return storage.stored_bytes(session, service.project_id)


def files(service: Service) -> int:
    return sum(path.is_file() for path in service.settings.artifacts.rglob("*"))


def test_uploads_at_once_do_not_exceed_the_quota_together(limited: Service) -> None:
    answers = at_once(lambda number: limited.http.post("/v1/uploads", content=noise(number)))
    taken = [answer for answer in answers if answer.status_code == 201]
    for refused in (answer for answer in answers if answer.status_code != 201):
        problem(refused, 507, "quota_exceeded")
    assert len(taken) == 2
    assert stored(limited) == sum(answer.json()["size_bytes"] for answer in taken) <= QUOTA
    assert files(limited) == len(taken)


def test_deleted_content_makes_room_at_once(limited: Service) -> None:
    first = upload(limited, noise(1))
    upload(limited, noise(2))
    refused = limited.http.post("/v1/uploads", content=noise(3))
    problem(refused, 507, "quota_exceeded")
    assert "retry-after" not in refused.headers  # waiting changes nothing
    assert limited.http.delete(f"/v1/uploads/{first}").status_code == 204
    upload(limited, noise(3))


def test_a_dataset_that_does_not_fit_fails_with_the_reason_and_leaves_nothing(embedded: Service) -> None:
    body = {"name": "made", "source": {"generator": {"name": "spirals", "rows": 2000, "steps": 20}}}
    assert embedded.http.post("/v1/datasets", json=body).status_code == 201
    embedded.work("data")
    version = embedded.http.get("/v1/datasets/made/versions/1").json()
    assert version["state"] == "failed"
    assert f"{QUOTA} are left of what the project may store" in version["detail"]
    assert version["errors"][0]["code"] == "quota_exceeded"
    assert (stored(embedded), files(embedded)) == (0, 0)


def test_conversions_that_were_queued_together_do_not_exceed_the_quota(embedded: Service) -> None:
    for number in range(2):
        queue_dataset(embedded, f"d{number}", **{f"x{number}": np.random.default_rng(number).normal(size=2600)})
    embedded.work("data")
    states = [embedded.http.get(f"/v1/datasets/d{number}/versions/1").json()["state"] for number in range(2)]
    assert sorted(states) == ["failed", "ready"]
    assert stored(embedded) <= QUOTA


def test_a_run_whose_model_does_not_fit_fails_and_is_retried_once_there_is_room(embedded: Service) -> None:
    dataset(embedded, "pictures", **pictures(40))
    run = queue_run(embedded, "pictures", "m")
    before = stored(embedded)
    embedded.work("train")
    run = embedded.http.get(f"/v1/runs/{run['id']}").json()
    assert (run["state"], run["error"]["code"], run["attempt"]) == ("failed", "quota_exceeded", 1)
    assert stored(embedded) == before
    with embedded.worker.database.writer.begin() as session:  # as an operator does
        session.get_one(Project, embedded.project_id).max_stored_bytes = 10 * QUOTA
    again = embedded.http.post(f"/v1/runs/{run['id']}/retry").json()
    embedded.work("train")
    assert embedded.http.get(f"/v1/runs/{again['id']}").json()["state"] == "succeeded"


def test_a_run_whose_first_checkpoint_does_not_fit_fails_at_once_and_leaves_nothing(embedded: Service) -> None:
    dataset(embedded, "pictures", **pictures(40))
    training = {"epochs": 2, "batch_size": 16, "validation_fraction": 0.1, "checkpoint_epochs": 1}
    run = queue_run(embedded, "pictures", "m", training=training)["id"]
    before = stored(embedded), files(embedded)
    embedded.work("train")
    found = embedded.http.get(f"/v1/runs/{run}").json()
    assert (found["state"], found["error"]["code"], found["attempt"]) == ("failed", "quota_exceeded", 1)
    assert embedded.http.get(f"/v1/runs/{run}/checkpoints").json()["checkpoints"] == []
    assert (stored(embedded), files(embedded)) == before


def test_a_later_checkpoint_that_does_not_fit_leaves_the_earlier_ones(limited: Service) -> None:
    ready_dataset(limited.worker.database, limited.project_id)
    run = queue_run(limited, "d", "m")["id"]
    max_bytes = stored(limited) + 3500
    for step, reason in ((1, "interval"), (2, "interval"), (3, "interval"), (4, "epoch")):
        keep(limited, run, step, reason, max_bytes)
    with pytest.raises(QuotaExceeded, match=f"of at most {max_bytes} bytes"):
        keep(limited, run, 5, "epoch", max_bytes)
    kept = limited.http.get(f"/v1/runs/{run}/checkpoints").json()["checkpoints"]
    assert [checkpoint["step"] for checkpoint in kept] == [4, 3, 2]


def keep(service: Service, run: str, step: int, reason: str, max_bytes: int) -> None:
    file = Stored(service.project_id, f"{step:064}", 1000)
    with service.worker.database.writer.begin() as session:
        training.record_checkpoint(session, run, 1, file, max_bytes, step, reason, Origin({}, None))


def test_runs_at_once_do_not_exceed_the_queue(limited: Service) -> None:
    ready_dataset(limited.worker.database, limited.project_id)
    body = {"dataset": {"name": "d"}, "model": "m"}
    answers = at_once(lambda _: limited.http.post("/v1/runs", json=body))
    assert sorted(answer.status_code for answer in answers) == [201] * QUEUED_RUNS + [429] * (AT_ONCE - QUEUED_RUNS)
    assert len(limited.http.get("/v1/runs", params={"state": "queued"}).json()["runs"]) == QUEUED_RUNS


def test_a_paused_run_is_not_resumed_beyond_the_queue(limited: Service) -> None:
    ready_dataset(limited.worker.database, limited.project_id)
    paused = queue_run(limited, "d", "m")["id"]
    limited.http.post(f"/v1/runs/{paused}/pause")
    for _ in range(QUEUED_RUNS):
        queue_run(limited, "d", "m")
    problem(limited.http.post(f"/v1/runs/{paused}/resume"), 429, "too_many_queued_runs")
    assert limited.http.get(f"/v1/runs/{paused}").json()["state"] == "paused"


def test_a_project_that_is_full_queues_no_runs(limited: Service) -> None:
    ready_dataset(limited.worker.database, limited.project_id)
    with limited.worker.database.writer.begin() as session:
        storage.record(session, Stored(limited.project_id, "f" * 64, QUOTA), None)
    answer = limited.http.post("/v1/runs", json={"dataset": {"name": "d"}, "model": "m"})
    problem(answer, 507, "quota_exceeded")
