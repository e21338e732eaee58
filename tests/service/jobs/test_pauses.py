"""Pauses, time-outs, devices and turns: T3, T12 and T13 on both databases."""

import pytest
from sqlalchemy import update

from service.access import operations as access
from service.jobs import live_workers, queue_position
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost
from service.jobs.tables import Job
from service.shared.database import Database, now
from service.shared.errors import Conflict
from tests.service.jobs.test_operations import (
    HALF,
    change,
    claim,
    claimed,
    create,
    create_later,
    reap,
    row,
    types,
    wait_for_the_end_of_the_lease,
)


def limited(database: Database, project_id: str, lease_seconds: float = 60) -> Claim:
    """A running job that has exceeded its timeout."""
    with database.writer.begin() as session:
        job_id = jobs.create(session, project_id, "test", "data", timeout_seconds=10).id
    found = claim(database, lease_seconds=lease_seconds)
    assert found is not None
    with database.writer.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(started_at=now(-11.0)))
    return found


def test_a_paused_queued_job_is_not_claimed(database: Database, project_id: str) -> None:
    job_id = create(database, project_id)
    assert change(database, lambda session: jobs.pause(session, job_id)) == "paused"
    assert claim(database) is None
    assert change(database, lambda session: jobs.pause(session, job_id)) == "paused"
    assert change(database, lambda session: jobs.resume(session, job_id)) == "queued"
    assert claim(database) is not None
    assert types(database, job_id) == ["queued", "paused", "resumed", "started"]


def test_pause_of_a_running_job_waits_for_its_owner(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    assert change(database, lambda session: jobs.pause(session, mine.job_id)) == "running"
    assert change(database, lambda session: jobs.heartbeat(session, mine, 60, HALF)) == (False, True, False)
    change(database, lambda session: jobs.suspend(session, mine))
    found = row(database, mine.job_id)
    assert (found.state, found.owner, found.pause_requested, found.failures) == ("paused", None, False, 0)
    with pytest.raises(Lost):
        change(database, lambda session: jobs.heartbeat(session, mine, 60, HALF))


def test_resume_before_the_owner_has_paused_continues_the_job(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.pause(session, mine.job_id))
    assert change(database, lambda session: jobs.resume(session, mine.job_id)) == "running"
    change(database, lambda session: jobs.suspend(session, mine))
    assert row(database, mine.job_id).state == "running"


def test_a_paused_job_can_be_cancelled_and_an_ended_job_cannot_be_paused(database: Database, project_id: str) -> None:
    job_id = create(database, project_id)
    change(database, lambda session: jobs.pause(session, job_id))
    assert change(database, lambda session: jobs.cancel(session, job_id)) == "cancelled"
    for transition in (jobs.pause, jobs.resume):
        with pytest.raises(Conflict, match="cancelled already"):
            change(database, lambda session, transition=transition: transition(session, job_id))


def test_a_job_that_ended_before_it_paused_is_not_resumed(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.pause(session, mine.job_id))
    change(database, lambda session: jobs.succeed(session, mine))
    with pytest.raises(Conflict, match="succeeded already"):
        change(database, lambda session: jobs.resume(session, mine.job_id))
    assert types(database, mine.job_id)[-1] == "succeeded"


def test_a_cancellation_wins_over_a_pause(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.pause(session, mine.job_id))
    change(database, lambda session: jobs.cancel(session, mine.job_id))
    change(database, lambda session: jobs.suspend(session, mine))
    assert row(database, mine.job_id).state == "running"
    change(database, lambda session: jobs.stop(session, mine))
    assert row(database, mine.job_id).state == "cancelled"


def test_a_lost_job_that_was_to_be_paused_is_paused(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id, lease_seconds=0.001)
    change(database, lambda session: jobs.pause(session, mine.job_id))
    assert reap(database, mine.job_id)
    assert row(database, mine.job_id).state == "paused"
    assert change(database, lambda session: jobs.resume(session, mine.job_id)) == "queued"


def test_a_job_that_exceeds_its_timeout_fails_without_a_retry(database: Database, project_id: str) -> None:
    mine = limited(database, project_id)
    assert change(database, lambda session: jobs.heartbeat(session, mine, 60, HALF)) == (False, False, True)
    change(database, lambda session: jobs.time_out(session, mine))
    found = row(database, mine.job_id)
    assert found.error is not None
    assert (found.state, found.error["code"]) == ("failed", "timeout")
    assert found.finished_at is not None


def test_a_job_in_time_is_not_timed_out(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.time_out(session, mine))
    assert row(database, mine.job_id).state == "running"


def test_a_lost_job_after_its_timeout_fails(database: Database, project_id: str) -> None:
    mine = limited(database, project_id, lease_seconds=0.001)
    wait_for_the_end_of_the_lease(database, mine.job_id)
    with database.writer.begin() as session:
        assert jobs.reap(session, 0) == [mine.job_id]
    found = row(database, mine.job_id)
    assert found.error is not None
    assert (found.state, found.error["code"]) == ("failed", "timeout")


def test_a_job_waits_for_a_worker_with_enough_devices(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        large = jobs.create(session, project_id, "test", "data", priority=9, devices=4).id
        small = jobs.create(session, project_id, "test", "data").id
    with database.writer.begin() as session:
        found = jobs.claim(session, "data", "wrk_1", 60, devices=2)
        assert found is not None
        assert found.job_id == small
        assert jobs.claim(session, "data", "wrk_1", 60, devices=3) is None
        found = jobs.claim(session, "data", "wrk_2", 60, devices=4)
        assert found is not None
        assert found.job_id == large


def test_equal_priorities_take_projects_in_turn(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        other = access.create_project(session, "other").id
    mine = [create_later(database, project_id) for _ in range(3)]
    theirs = [create_later(database, other) for _ in range(2)]
    urgent = create(database, project_id, priority=5)
    taken = []
    while (found := claim(database)) is not None:
        taken.append(found.job_id)
    assert taken == [urgent, theirs[0], mine[0], theirs[1], mine[1], mine[2]]


def test_a_waiting_job_has_a_position_and_a_reason(database: Database, project_id: str) -> None:
    first, second = create_later(database, project_id), create_later(database, project_id)

    def reason(job_id: str) -> str | None:
        with database.reader() as session:
            return queue_position.find(session, [session.get_one(Job, job_id)])[job_id].reason

    with database.reader() as session:
        assert queue_position.find(session, [session.get_one(Job, second)])[second].position == 2
    assert reason(first) == "no data worker is alive"
    with database.writer.begin() as session:
        live_workers.register(session, "host", 1, "data", ["cpu"], {})
        greedy = jobs.create(session, project_id, "test", "data", devices=2).id
    assert reason(greedy) == "it needs 2 devices, and no data worker has more than 1"
    assert reason(second) == "0 of 1 data workers are busy"
    mine = claim(database)
    assert mine is not None
    assert reason(mine.job_id) is None
    change(database, lambda session: jobs.fail(session, mine, {"code": "fault", "detail": "it broke"}, 60))
    assert "attempt 1 failed, the next one starts after" in str(reason(mine.job_id))
    with database.reader() as session:
        assert live_workers.work_waits(session, "data", 1, 0.0)
        assert not live_workers.work_waits(session, "data", 1, 60.0)
        assert not live_workers.work_waits(session, "train", 1, 0.0)
