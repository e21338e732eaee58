"""Deletion, restoration, purge and expiry of datasets and their versions, on each database."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from service.datasets import operations as datasets
from service.datasets.tables import Dataset, DatasetVersion
from service.lineage import expiry
from service.shared import storage
from service.shared.database import now
from service.shared.events import Event
from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.service.steps import dataset, problem, queue_dataset, queue_run, train

RUN = {"model": "m", "training": {"epochs": 1, "batch_size": 16, "validation_fraction": 0.1}}
DAY = 86_400.0


@pytest.fixture
def kept(empty_database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service on each database."""
    settings = Settings(
        home=tmp_path,
        database=empty_database_url,
        secret_key=SecretStr("k" * 32),
        heartbeat_seconds=0.2,
        retry_seconds=0,
    )
    with running(settings) as service:
        yield service


def made(service: Service, versions: int = 1, name: str = "d") -> str:
    """The path of a dataset with this number of versions."""
    for version in range(versions):
        assert dataset(service, name, x=np.arange(20.0) + 100 * version + 1000 * len(name))["state"] == "ready"
    return f"/v1/datasets/{name}"


def numbers(service: Service, path: str, **query: Any) -> list[int]:
    return [one["version"] for one in service.http.get(f"{path}/versions", params=query).json()["versions"]]


def names(service: Service, **query: Any) -> list[str]:
    return [one["name"] for one in service.http.get("/v1/datasets", params=query).json()["datasets"]]


def run_on(service: Service, name: str = "d", version: int | None = None) -> Any:
    reference = {"name": name} if version is None else {"name": name, "version": version}
    return service.http.post("/v1/runs", json={"dataset": reference, **RUN})


def stored(service: Service) -> int:
    with service.worker.database.reader() as session:
        return storage.stored_bytes(session, service.project_id)


def swept(service: Service) -> int:
    """Sweep as the reconciler does."""
    return storage.sweep(service.worker.database, service.worker.storage)


def events_of(service: Service, *types: str) -> list[tuple[str, str]]:
    with service.worker.database.reader() as session:
        query = select(Event).where(Event.project_id == service.project_id).order_by(Event.id)
        return [(event.type, event.resource_id) for event in session.scalars(query) if event.type.startswith(types)]


def test_a_deleted_version_keeps_its_file_and_cannot_be_used_until_it_is_restored(kept: Service) -> None:
    path = made(kept, 2)
    before = stored(kept)
    assert kept.http.delete(f"{path}/versions/2").status_code == 204
    assert (numbers(kept, path), numbers(kept, path, deleted=True)) == ([1], [2])
    assert kept.http.get(path).json()["latest_version"] == 1
    found = kept.http.get(f"{path}/versions/2").json()
    assert found["deleted_at"] is not None
    assert found["size_bytes"] > 0
    assert swept(kept) == 0
    assert stored(kept) == before  # it counts until it is purged
    for call in ("preview", "content"):
        problem(kept.http.get(f"{path}/versions/2/{call}"), 409, "dataset_deleted")
    assert "restore" in problem(run_on(kept, version=2), 409, "dataset_deleted")["detail"]
    assert run_on(kept).json()["dataset"]["version"] == 1  # the newest that is not deleted
    assert kept.http.get(f"{path}/versions/2/lineage").status_code == 200
    assert kept.http.post(f"{path}/versions/2/restore").json()["deleted_at"] is None
    assert numbers(kept, path) == [2, 1]
    assert run_on(kept, version=2).status_code == 201


def test_a_deleted_dataset_is_restored_explicitly_or_by_its_next_version(kept: Service) -> None:
    path = made(kept, 2)
    for _ in range(2):  # a second deletion changes nothing
        assert kept.http.delete(path).status_code == 204
    assert ("d" in names(kept), names(kept, deleted=True)) == (False, ["d"])
    assert kept.http.get(path).json()["deleted_at"] is not None
    problem(run_on(kept), 409, "dataset_deleted")
    problem(run_on(kept, version=1), 409, "dataset_deleted")
    problem(kept.http.get(f"{path}/versions/1/preview"), 409, "dataset_deleted")
    assert kept.http.post(f"{path}/restore").json() == kept.http.get(path).json()
    assert kept.http.get(path).json()["deleted_at"] is None
    assert numbers(kept, path) == [2, 1]
    kept.http.delete(path)
    made(kept, 1)
    assert numbers(kept, path) == [3, 2, 1]
    told = ["dataset.deleted", "dataset.restored"] * 2
    assert events_of(kept, "dataset.") == [(type, "d") for type in told]


def test_a_restored_dataset_keeps_the_versions_that_were_deleted_individually_deleted(kept: Service) -> None:
    path = made(kept, 2)
    kept.http.delete(f"{path}/versions/1")
    kept.http.delete(path)
    assert kept.http.post(f"{path}/restore").status_code == 200
    assert (numbers(kept, path), numbers(kept, path, deleted=True)) == ([2], [1])
    kept.http.delete(path)
    assert kept.http.post(f"{path}/versions/1/restore").status_code == 200  # with its dataset
    assert kept.http.get(path).json()["deleted_at"] is None
    for version in (1, 2):
        kept.http.delete(f"{path}/versions/{version}")
    assert kept.http.get(path).json()["latest_version"] is None
    problem(run_on(kept), 409, "dataset_deleted")


@pytest.mark.parametrize("marked", [False, True])
def test_a_purged_version_is_gone_with_its_file_and_its_number_is_not_used_again(kept: Service, marked: bool) -> None:
    path = made(kept, 2)
    file = kept.settings.artifacts / kept.project_id / kept.http.get(f"{path}/versions/2").json()["sha256"]
    before = stored(kept)
    if marked:
        kept.http.delete(f"{path}/versions/2")
    assert file.exists()
    assert kept.http.delete(f"{path}/versions/2", params={"purge": True}).status_code == 204
    assert stored(kept) < before
    assert swept(kept) == 1
    assert not file.exists()
    assert (numbers(kept, path), numbers(kept, path, deleted=True)) == ([1], [])
    problem(kept.http.get(f"{path}/versions/2"), 404, "dataset_version_not_found")
    for answer in (
        kept.http.post(f"{path}/versions/2/restore"),
        kept.http.delete(f"{path}/versions/2"),
        run_on(kept, version=2),
    ):
        problem(answer, 404, "dataset_version_not_found")
    made(kept, 1)
    assert numbers(kept, path) == [3, 1]


def test_a_purged_dataset_is_gone_and_a_new_one_of_its_name_goes_on_counting(kept: Service) -> None:
    path = made(kept, 2)
    assert kept.http.delete(path, params={"purge": True}).status_code == 204
    assert (names(kept), names(kept, deleted=True)) == ([], [])
    for answer in (kept.http.get(path), kept.http.post(f"{path}/restore"), kept.http.delete(path), run_on(kept)):
        problem(answer, 404, "dataset_not_found")
    problem(kept.http.get(f"{path}/versions/1"), 404, "dataset_version_not_found")
    assert swept(kept) == 2
    made(kept, 1)
    assert numbers(kept, path) == [3]
    assert events_of(kept, "dataset.purged", "dataset_version.purged") == [
        ("dataset_version.purged", "d/1"),
        ("dataset_version.purged", "d/2"),
        ("dataset.purged", "d"),
    ]
    assert ("dataset.restored", "d") not in events_of(kept, "dataset.")


def test_a_dataset_in_use_is_deleted_only_by_force_and_the_refusal_names_its_users(kept: Service) -> None:
    path = made(kept, 1, "used")
    run = train(kept, "used", "made-of-it")
    assert run["state"] == "succeeded"
    waiting = queue_run(kept, "used", "still-to-be-made")
    for query in ({}, {"purge": True}):
        refused = problem(kept.http.delete(path, params=query), 409, "dataset_in_use")
        users = {error["detail"] for error in refused["errors"]}
        assert users == {f"run {run['id']}", f"run {waiting['id']}", "model version made-of-it/1"}
    lineage = kept.http.get(f"{path}/versions/1/lineage").json()
    assert {f"{user['kind']} {user['name']}" for user in lineage["users"]} == users
    uploaded = kept.http.get(f"/v1/uploads/{lineage['source']['upload']}").json()
    assert lineage["source_sha256"] == uploaded["sha256"]
    assert kept.http.delete(path, params={"force": True}).status_code == 204
    assert kept.http.get(f"/v1/runs/{waiting['id']}").json()["state"] == "cancelled"
    assert kept.http.get(f"/v1/runs/{run['id']}").json()["state"] == "succeeded"
    problem(kept.http.post(f"/v1/runs/{waiting['id']}/retry"), 409, "dataset_deleted")
    assert kept.http.get("/v1/models/made-of-it/versions/1").json()["lineage"]["dataset"] == "used"
    assert kept.http.post(f"{path}/restore").status_code == 200
    assert kept.http.post(f"/v1/runs/{waiting['id']}/retry").status_code == 201
    kept.http.delete(path, params={"force": True, "purge": True})
    assert "purged" in problem(kept.http.post(f"/v1/runs/{waiting['id']}/retry"), 409, "dataset_deleted")["detail"]


def test_the_deletion_of_a_version_cancels_its_conversion(kept: Service) -> None:
    queue_dataset(kept, "d", x=np.arange(9.0))
    assert kept.http.delete("/v1/datasets/d/versions/1").status_code == 204
    assert kept.http.get("/v1/datasets/d/versions/1").json()["state"] == "cancelled"


def test_what_was_deleted_long_ago_is_purged(kept: Service) -> None:
    whole, one = made(kept, 2, "whole"), made(kept, 2, "one")
    recent = made(kept, 1, "recent")
    kept.http.delete(f"{one}/versions/1")
    for path in (whole, recent):
        kept.http.delete(path)
    with kept.worker.database.writer.begin() as session:
        expiry.purge(session, days=1)
    assert sorted(names(kept, deleted=True)) == ["recent", "whole"]
    with kept.worker.database.writer.begin() as session:
        session.execute(update(Dataset).where(Dataset.name == "whole").values(deleted_at=now(-2 * DAY)))
        marked = DatasetVersion.deleted_at.is_not(None)
        session.execute(update(DatasetVersion).where(marked).values(deleted_at=now(-2 * DAY)))
    for _ in range(2):  # the second call finds nothing
        with kept.worker.database.writer.begin() as session:
            expiry.purge(session, days=1)
    assert names(kept, deleted=True) == ["recent"]
    problem(kept.http.get(whole), 404, "dataset_not_found")
    assert (numbers(kept, one), numbers(kept, one, deleted=True)) == ([2], [])
    assert swept(kept) == 3
    assert events_of(kept, "dataset.purged", "dataset_version.purged") == [
        ("dataset_version.purged", "one/1"),
        ("dataset_version.purged", "whole/1"),
        ("dataset_version.purged", "whole/2"),
        ("dataset.purged", "whole"),
    ]


def test_a_run_that_is_being_created_delays_the_deletion_of_its_dataset(kept: Service) -> None:
    """PostgreSQL only: SQLite has one writer. The deletion waits for the lock of the run, and then sees the run."""
    if kept.worker.database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    made(kept)
    with kept.worker.database.writer.begin() as session:
        datasets.ready_version(session, kept.project_id, "d", None, lock=True)
        with kept.worker.database.writer.begin() as other:
            query = select(Dataset).where(Dataset.name == "d").with_for_update(skip_locked=True)
            assert other.scalar(query) is None
