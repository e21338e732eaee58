"""Each transition of a job is an event of its resource, with what a reader needs to know, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.jobs import operations as jobs
from service.jobs.operations import Claim
from service.jobs.operations.recovery import LOST
from service.jobs.tables import Job
from service.shared.database import Database, now
from service.shared.errors import Conflict
from service.shared.events import Event, Resource

FAULT = {"code": "process_died", "detail": "it was killed", "errors": [{"pointer": "", "code": "c", "detail": "d"}]}
BRIEF = {"code": "process_died", "detail": "it was killed"}
TIMEOUT = "it ran for longer than its timeout_seconds"

Told = tuple[str, dict[str, Any]]


def change(database: Database, what: Callable[[Session], Any]) -> Any:
    with database.writer.begin() as session:
        return what(session)


@pytest.fixture
def job(database: Database, project_id: str) -> str:
    """A queued job of a run."""

    def create(session: Session) -> str:
        return jobs.create(session, project_id, "t", "data", resource=Resource("run", "run_1")).id

    return str(change(database, create))


def claimed(database: Database) -> Claim:
    claim = change(database, lambda session: jobs.claim(session, "data", "wrk_1", 60))
    assert isinstance(claim, Claim)
    return claim


def told(database: Database) -> list[Told]:
    """Type and data of the events of the run."""
    with database.reader() as session:
        found = session.scalars(select(Event).where(Event.resource_type == "run").order_by(Event.id)).all()
    assert all(event.resource_id == "run_1" for event in found)
    return [(event.type, event.data) for event in found]


def set_columns(database: Database, **values: Any) -> None:
    change(database, lambda session: session.execute(update(Job).values(**values)))


def test_a_job_that_succeeds(database: Database, job: str) -> None:
    claim = claimed(database)
    change(database, lambda session: jobs.succeed(session, claim))
    assert told(database) == [
        ("run.queued", {"attempt": 0}),
        ("run.started", {"attempt": 1}),
        ("run.succeeded", {"attempt": 1}),
    ]


@pytest.mark.parametrize(
    ("transition", "expected"),
    [
        (jobs.release, ("run.requeued", {"attempt": 1, "reason": "released"})),
        (
            lambda session, claim: jobs.postpone(session, claim, "full: home", 5),
            ("run.requeued", {"attempt": 1, "reason": "storage_full"}),
        ),
        (
            lambda session, claim: jobs.fail(session, claim, FAULT, 0.0),
            ("run.requeued", {"attempt": 1, "reason": "attempt_failed", "error": BRIEF}),
        ),
        (
            lambda session, claim: jobs.fail(session, claim, FAULT, None),
            ("run.failed", {"attempt": 1, "error": BRIEF}),
        ),
    ],
    ids=["released", "without space", "failed and tried again", "failed"],
)
def test_the_end_of_an_attempt(database: Database, job: str, transition: Any, expected: Told) -> None:
    claim = claimed(database)
    change(database, lambda session: transition(session, claim))
    change(database, lambda session: transition(session, claim))  # the attempt is lost: it changes nothing
    assert told(database)[2:] == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("run.requeued", {"attempt": 1, "reason": "worker_lost"})),
        ({"pause_requested": True}, ("run.paused", {"attempt": 1, "reason": "worker_lost"})),
        ({"cancel_requested": True}, ("run.cancelled", {"attempt": 1, "reason": "worker_lost"})),
        ({"max_attempts": 1}, ("run.failed", {"attempt": 1, "error": LOST})),
        (
            {"timeout_seconds": 1.0, "started_at": now(-60)},
            ("run.failed", {"attempt": 1, "error": {"code": "timeout", "detail": TIMEOUT}}),
        ),
    ],
    ids=["requeued", "paused", "cancelled", "last attempt", "timed out"],
)
def test_a_job_whose_worker_is_lost(database: Database, job: str, values: dict[str, Any], expected: Told) -> None:
    claimed(database)
    set_columns(database, lease_expires_at=now(-1), **values)
    change(database, lambda session: jobs.reap(session, 0.0))
    assert told(database)[2:] == [expected]


def test_a_job_that_runs_out_of_time(database: Database, job: str) -> None:
    claim = claimed(database)
    set_columns(database, timeout_seconds=1.0, started_at=now(-60))
    change(database, lambda session: jobs.time_out(session, claim))
    assert told(database)[2:] == [("run.failed", {"attempt": 1, "error": {"code": "timeout", "detail": TIMEOUT}})]


def test_a_job_that_is_paused_and_resumed_and_cancelled_before_it_runs(database: Database, job: str) -> None:
    for request in (jobs.pause, jobs.resume, jobs.cancel):
        change(database, lambda session, request=request: request(session, job))
    assert told(database)[1:] == [
        ("run.paused", {"attempt": 0}),
        ("run.requeued", {"attempt": 0, "reason": "resumed"}),
        ("run.cancelled", {"attempt": 0}),
    ]
    with pytest.raises(Conflict):
        change(database, lambda session: jobs.cancel(session, job))
    assert len(told(database)) == 4


def test_requests_of_a_running_job_are_changes_until_its_worker_follows_them(database: Database, job: str) -> None:
    claim = claimed(database)
    for request in (jobs.pause, jobs.resume, jobs.pause):
        change(database, lambda session, request=request: request(session, job))
    change(database, lambda session: jobs.suspend(session, claim))
    change(database, lambda session: jobs.resume(session, job))
    claim = claimed(database)
    change(database, lambda session: jobs.cancel(session, job))
    change(database, lambda session: jobs.stop(session, claim))
    assert told(database)[2:] == [
        *[("run.changed", {"attempt": 1, "changed": ["pause_requested"]})] * 3,
        ("run.paused", {"attempt": 1}),
        ("run.requeued", {"attempt": 1, "reason": "resumed"}),
        ("run.started", {"attempt": 2}),
        ("run.changed", {"attempt": 2, "changed": ["cancel_requested"]}),
        ("run.cancelled", {"attempt": 2}),
    ]


def test_a_job_without_a_resource_has_no_events(database: Database, project_id: str) -> None:
    change(database, lambda session: jobs.create(session, project_id, "t", "data"))
    claim = claimed(database)
    change(database, lambda session: jobs.succeed(session, claim))
    with database.reader() as session:
        assert session.scalars(select(Event).where(Event.type != "project.created")).all() == []
