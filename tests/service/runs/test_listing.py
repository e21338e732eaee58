"""Lists of runs: filters and pages, on both databases."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from service.jobs import operations as jobs
from service.runs import operations as runs
from service.runs.listing import Filters
from service.runs.schemas import DatasetReference, RunChanges, RunRequest
from service.shared.database import Database
from tests.service.rows import ready_dataset


@pytest.fixture
def made(database: Database, project_id: str) -> list[str]:
    """Six runs, oldest first: even ones for model a, every third has the tag t, the first two are cancelled."""
    ready_dataset(database, project_id)
    found = []
    for index in range(6):
        with database.writer.begin() as session:
            request = RunRequest(
                dataset=DatasetReference(name="d"),
                model="ab"[index % 2],
                tags=["t", "u"] if index % 3 == 0 else ["u"],
            )
            run, job_id = runs.create(session, project_id, request)
            found.append(run.id)
            if index < 2:
                jobs.cancel(session, job_id)
        time.sleep(0.002)  # ids of one millisecond have no order
    return found


def listed(database: Database, project_id: str, size: int = 100, **filters: object) -> list[str]:
    """All pages, one after the other."""
    found: list[str] = []
    after = None
    while True:
        with database.reader() as session:
            page = runs.list_runs(session, project_id, Filters(**filters), after, size)  # type: ignore[arg-type]
        found += [run.id for _, run in page]
        if len(page) < size:
            return found
        after = page[-1][0]


def test_pages_are_newest_first_and_complete(database: Database, project_id: str, made: list[str]) -> None:
    for size in (1, 2, 4, 7):
        assert listed(database, project_id, size) == made[::-1]
    assert listed(database, "prj_other") == []


def test_filters_narrow_and_combine(database: Database, project_id: str, made: list[str]) -> None:
    queued, cancelled = made[:1:-1], made[1::-1]
    for size in (1, 3, 100):
        assert listed(database, project_id, size, states=["cancelled"]) == cancelled
        assert listed(database, project_id, size, states=["queued"]) == queued
        assert listed(database, project_id, size, states=["queued", "cancelled", "failed"]) == made[::-1]
    assert listed(database, project_id, states=["running"]) == []
    assert listed(database, project_id, tags=["t"]) == [made[3], made[0]]
    assert listed(database, project_id, tags=["t", "u"], states=["queued"]) == [made[3]]
    assert listed(database, project_id, tags=["v"]) == []
    assert listed(database, project_id, model="a") == [made[4], made[2], made[0]]
    assert listed(database, project_id, dataset="d", model="b") == [made[5], made[3], made[1]]
    assert listed(database, project_id, dataset="e") == []


def test_times_narrow_too(database: Database, project_id: str, made: list[str]) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=5)
    long_ago = soon - timedelta(hours=1)
    assert listed(database, project_id, created_after=long_ago, created_before=soon) == made[::-1]
    assert listed(database, project_id, created_after=soon) == []
    assert listed(database, project_id, created_before=long_ago, states=["queued"]) == []


def test_tags_and_description_can_be_changed(database: Database, project_id: str, made: list[str]) -> None:
    with database.writer.begin() as session:
        changed = runs.change(session, project_id, made[1], RunChanges(tags=["z", "y", "z"], description="mine"))
    assert (changed.tags, changed.description) == (["y", "z"], "mine")
    with database.writer.begin() as session:
        assert runs.change(session, project_id, made[1], RunChanges(description=None)).tags == ["y", "z"]
    assert listed(database, project_id, tags=["z"]) == [made[1]]
