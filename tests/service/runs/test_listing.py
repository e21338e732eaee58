"""Lists of runs: filters and pages, on both databases."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from service.jobs import operations as jobs
from service.jobs.tables import Job
from service.runs import lookup
from service.runs import operations as runs
from service.runs.schemas import DatasetReference, RunChanges, RunRequest
from service.runs.tables import Run
from service.runs.selection import NEWEST_FIRST, Filters, Order
from service.shared.database import Database
from service.shared.period import Period
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


def listed(
    database: Database, project_id: str, size: int = 100, order: Order = NEWEST_FIRST, **filters: object
) -> list[str]:
    """All pages, one after the other."""
    found: list[str] = []
    after = None
    while True:
        with database.reader() as session:
            page = lookup.list_runs(session, project_id, Filters(**filters), order, after, size)  # type: ignore[arg-type]
        found += [run.id for _, run in page]
        if len(page) < size:
            return found
        after = page[-1][0]


def test_pages_are_newest_first_and_complete(database: Database, project_id: str, made: list[str]) -> None:
    for size in (1, 2, 4, 7):
        assert listed(database, project_id, size) == made[::-1]
    assert listed(database, "prj_other") == []


def test_a_list_has_queue_positions_with_a_constant_number_of_queries(
    database: Database, project_id: str, made: list[str]
) -> None:
    with database.writer.begin() as session:
        session.get_one(Job, lookup.job_of(session, project_id, made[5])).priority = 7
    counts: list[int] = []
    found: dict[int, dict[str, tuple[int | None, str | None]]] = {}
    for size in (1, 6):
        statements: list[str] = []

        def count(*arguments: object, into: list[str] = statements) -> None:
            into.append(str(arguments[2]))

        event.listen(database.engine, "before_cursor_execute", count)
        with database.reader() as session:
            page = lookup.list_runs(session, project_id, Filters(), NEWEST_FIRST, None, size)
        event.remove(database.engine, "before_cursor_execute", count)
        counts.append(len(statements))
        found[size] = {run.id: (run.queue_position, run.waiting_reason) for _, run in page}
    assert counts[0] == counts[1]
    positions = [found[6][run_id][0] for run_id in made]
    assert positions == [None, None, 2, 3, 4, 1]
    assert found[6][made[0]] == (None, None)
    assert found[6][made[2]][1] == "no train worker is alive"
    with database.reader() as session:
        alone = {run_id: lookup.get(session, project_id, run_id) for run_id in made}
    assert {run_id: (run.queue_position, run.waiting_reason) for run_id, run in alone.items()} == found[6]
    assert found[1] == {made[5]: found[6][made[5]]}


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
    assert listed(database, project_id, period=Period(long_ago, soon)) == made[::-1]
    assert listed(database, project_id, period=Period(soon)) == []
    assert listed(database, project_id, period=Period(before=long_ago), states=["queued"]) == []


def test_tags_and_description_can_be_changed(database: Database, project_id: str, made: list[str]) -> None:
    with database.writer.begin() as session:
        changed = runs.change(session, project_id, made[1], RunChanges(tags=["z", "y", "z"], description="mine"))
    assert (changed.tags, changed.description) == (["y", "z"], "mine")
    with database.writer.begin() as session:
        assert runs.change(session, project_id, made[1], RunChanges(description=None)).tags == ["y", "z"]
    assert listed(database, project_id, tags=["z"]) == [made[1]]


def test_a_stored_architecture_of_an_earlier_release_is_listed_with_the_names_of_today(
    database: Database, project_id: str, made: list[str]
) -> None:
    """A product of experts was a fusion once (docs/decisions/0052)."""
    with database.writer.begin() as session:
        session.get_one(Run, made[3]).architecture = {"architecture": "mmvrnn", "fusion": "product_of_experts"}
    with database.reader() as session:
        found = {run.id: run.architecture for _, run in lookup.list_runs(session, project_id, Filters(), None, 6)}
        one = lookup.get(session, project_id, made[3]).architecture
    assert found[made[3]] == one
    assert one == {"architecture": "mmvrnn", "fusion": "missing_embeddings", "posterior": "product_of_experts"}
