"""Every transition of a job, its guard and its effect on the row, on both databases."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.jobs import history
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost, Progress
from service.jobs.operations.clauses import MAX_BACKOFF_SECONDS
from service.jobs.operations.queue import FIRST_WAKE_SECONDS
from service.jobs.tables import Job
from service.shared.database import Database, now
from service.shared.errors import Conflict
from tests.conftest import wait_until

FAULT = {"code": "process_died", "detail": "it was killed"}
HALF = Progress("training", 0.5, 12.0)


def create(database: Database, project_id: str, *, priority: int = 0, queue: str = "data") -> str:
    with database.writer.begin() as session:
        return jobs.create(session, project_id, "test", queue, priority).id


def create_later(database: Database, project_id: str) -> str:
    # Ids sort by the millisecond in which they were made.
    made_at = time.time_ns() // 1_000_000
    wait_until(lambda: time.time_ns() // 1_000_000 > made_at)
    return create(database, project_id)


def claim(database: Database, *, owner: str = "wrk_1", lease_seconds: float = 60, queue: str = "data") -> Claim | None:
    with database.writer.begin() as session:
        return jobs.claim(session, queue, owner, lease_seconds)


def claimed(database: Database, project_id: str, *, lease_seconds: float = 60) -> Claim:
    create(database, project_id)
    found = claim(database, lease_seconds=lease_seconds)
    assert found is not None
    return found


def row(database: Database, job_id: str) -> Job:
    with database.reader() as session:
        return session.get_one(Job, job_id)


def change(database: Database, what: Callable[[Session], object]) -> object:
    with database.writer.begin() as session:
        return what(session)


def types(database: Database, job_id: str) -> list[str]:
    with database.reader() as session:
        return [event.type for event in history.events(session, job_id, 0, 100)]


def wait_for_the_end_of_the_lease(database: Database, job_id: str) -> None:
    over = select(Job.id).where(Job.id == job_id, Job.lease_expires_at < now())

    def is_over() -> bool:
        with database.reader() as session:
            return session.scalar(over) is not None

    wait_until(is_over, what="the end of the lease")


def reap(database: Database, job_id: str, retry_seconds: float = 0) -> bool:
    wait_for_the_end_of_the_lease(database, job_id)
    with database.writer.begin() as session:
        return job_id in jobs.reap(session, retry_seconds)


# T1, T2


def test_a_new_job_is_queued_and_its_history_begins(database: Database, project_id: str) -> None:
    job = row(database, create(database, project_id))
    assert (job.state, job.attempt, job.failures, job.owner, job.started_at) == ("queued", 0, 0, None, None)
    assert types(database, job.id) == ["queued"]


def test_a_new_job_is_not_announced_again_at_once(database: Database, project_id: str) -> None:
    job = row(database, create(database, project_id))
    assert FIRST_WAKE_SECONDS - 5 < (job.dispatch_after - job.created_at).total_seconds() <= 31
    assert change(database, jobs.due) == []


def test_a_due_job_is_announced_once_and_then_postponed(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.release(session, mine))
    assert change(database, jobs.due) == [(mine.job_id, "data")]
    assert change(database, jobs.due) == []
    assert row(database, mine.job_id).dispatches == 1


def test_a_running_job_is_not_announced(database: Database, project_id: str) -> None:
    claimed(database, project_id)
    assert change(database, jobs.due) == []


# T3


def test_claim_takes_the_highest_priority_and_then_the_oldest(database: Database, project_id: str) -> None:
    old, young = create(database, project_id), create_later(database, project_id)
    urgent = create(database, project_id, priority=5)
    order = [found.job_id for _ in range(3) if (found := claim(database))]
    assert order == [urgent, old, young]
    assert claim(database) is None


def test_claim_keeps_to_its_queue(database: Database, project_id: str) -> None:
    create(database, project_id, queue="train")
    assert claim(database, queue="data") is None
    assert claim(database, queue="train") is not None


def test_claim_leases_the_job_to_its_owner_and_counts_the_attempt(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id, lease_seconds=60)
    job = row(database, mine.job_id)
    assert (job.state, job.owner, job.attempt, job.phase) == ("running", "wrk_1", 1, "starting")
    assert mine.attempt == 1
    assert job.started_at is not None
    assert job.lease_expires_at is not None
    assert (job.lease_expires_at - job.started_at).total_seconds() == pytest.approx(60, abs=0.5)
    assert types(database, mine.job_id) == ["queued", "started"]


def test_a_job_is_not_claimed_before_its_time(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    assert change(database, lambda session: jobs.fail(session, mine, FAULT, 60.0)) == "queued"
    assert claim(database) is None
    assert change(database, jobs.due) == []


def test_a_second_attempt_keeps_the_first_start_and_forgets_the_error(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    started_at = row(database, mine.job_id).started_at
    change(database, lambda session: jobs.fail(session, mine, FAULT, 0.0))
    again = claim(database)
    job = row(database, mine.job_id)
    assert again is not None
    assert (again.job_id, again.attempt) == (mine.job_id, 2)
    assert (job.started_at, job.error, job.progress) == (started_at, None, 0.0)


def test_workers_that_claim_at_once_never_get_the_same_job(database: Database, project_id: str) -> None:
    created = {create(database, project_id) for _ in range(40)}
    start = threading.Barrier(4)

    def take(owner: str) -> list[str]:
        start.wait()
        taken = []
        while found := claim(database, owner=owner):
            taken.append(found.job_id)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for part in pool.map(take, [f"wrk_{n}" for n in range(4)]) for job_id in part]
    assert len(taken) == len(created)
    assert set(taken) == created


# T4


def test_a_heartbeat_renews_the_lease_and_records_the_progress(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id, lease_seconds=1)
    before = row(database, mine.job_id).lease_expires_at
    requests = change(database, lambda session: jobs.heartbeat(session, mine, 60, HALF))
    job = row(database, mine.job_id)
    assert not requests.any()
    assert before is not None
    assert job.lease_expires_at is not None
    assert (job.lease_expires_at - before).total_seconds() > 50
    assert (job.phase, job.progress, job.eta_seconds) == ("training", 0.5, 12.0)


def test_a_heartbeat_after_the_lease_but_before_the_reaper_keeps_the_job(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id, lease_seconds=0.001)
    wait_for_the_end_of_the_lease(database, mine.job_id)
    change(database, lambda session: jobs.heartbeat(session, mine, 60, HALF))
    assert change(database, lambda session: jobs.reap(session, 0)) == []
    assert row(database, mine.job_id).state == "running"


def test_a_heartbeat_returns_a_requested_cancellation(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    assert change(database, lambda session: jobs.cancel(session, mine.job_id)) == "running"
    requests = change(database, lambda session: jobs.heartbeat(session, mine, 60, HALF))
    assert requests == (True, False, False)


# The fencing token


def test_the_former_owner_of_a_reaped_job_cannot_change_it(database: Database, project_id: str) -> None:
    lost = claimed(database, project_id, lease_seconds=0.001)
    assert reap(database, lost.job_id)
    current = claim(database, owner="wrk_2")
    assert current is not None
    assert current.attempt == 2
    with pytest.raises(Lost):
        change(database, lambda session: jobs.heartbeat(session, lost, 60, HALF))
    with pytest.raises(Lost):
        change(database, lambda session: jobs.succeed(session, lost))
    assert change(database, lambda session: jobs.fail(session, lost, FAULT, 0.0)) is None
    change(database, lambda session: jobs.release(session, lost))
    change(database, lambda session: jobs.cancel(session, lost.job_id))
    change(database, lambda session: jobs.stop(session, lost))
    job = row(database, lost.job_id)
    assert (job.state, job.owner, job.attempt, job.failures, job.preemptions) == ("running", "wrk_2", 2, 1, 0)
    assert job.phase == "starting"


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled"])
def test_a_final_state_never_changes(database: Database, project_id: str, ending: str) -> None:
    mine = claimed(database, project_id, lease_seconds=0.001)
    if ending == "succeeded":
        change(database, lambda session: jobs.succeed(session, mine))
    elif ending == "failed":
        change(database, lambda session: jobs.fail(session, mine, FAULT, None))
    else:
        change(database, lambda session: jobs.cancel(session, mine.job_id))
        change(database, lambda session: jobs.stop(session, mine))
    before = row(database, mine.job_id)
    assert before.state == ending
    with pytest.raises(Lost):
        change(database, lambda session: jobs.heartbeat(session, mine, 60, HALF))
    with pytest.raises(Lost):
        change(database, lambda session: jobs.succeed(session, mine))
    with pytest.raises(Conflict, match=ending):
        change(database, lambda session: jobs.cancel(session, mine.job_id))
    assert change(database, lambda session: jobs.fail(session, mine, FAULT, 0.0)) is None
    change(database, lambda session: jobs.release(session, mine))
    change(database, lambda session: jobs.stop(session, mine))
    assert change(database, lambda session: jobs.reap(session, 0)) == []
    assert claim(database) is None
    assert change(database, jobs.due) == []
    after = row(database, mine.job_id)
    columns = [column.key for column in Job.__table__.columns]
    assert {name: getattr(after, name) for name in columns} == {name: getattr(before, name) for name in columns}


# T6


def test_succeed_ends_the_job_and_its_lease(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.succeed(session, mine))
    job = row(database, mine.job_id)
    assert (job.state, job.progress, job.owner, job.lease_expires_at) == ("succeeded", 1.0, None, None)
    assert job.finished_at is not None
    assert types(database, mine.job_id) == ["queued", "started", "succeeded"]


def test_succeed_rolls_back_after_a_cancellation_request(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.cancel(session, mine.job_id))

    def succeed(session: Session) -> None:
        history.record_log(session, mine.job_id, mine.attempt, "what the outcome would have added")
        jobs.succeed(session, mine)

    with pytest.raises(Lost):
        change(database, succeed)
    assert row(database, mine.job_id).state == "running"
    with database.reader() as session:
        assert history.log_tail(session, mine.job_id, 100) == ""


# T7


def test_release_queues_the_job_again_and_counts_a_preemption(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.release(session, mine))
    job = row(database, mine.job_id)
    assert (job.state, job.preemptions, job.failures, job.owner) == ("queued", 1, 0, None)
    again = claim(database, owner="wrk_2")
    assert again is not None
    assert again.attempt == 2


# T8


def test_a_lease_that_holds_is_not_reaped(database: Database, project_id: str) -> None:
    claimed(database, project_id, lease_seconds=60)
    assert change(database, lambda session: jobs.reap(session, 0)) == []


def test_a_lost_job_is_queued_again_after_its_back_off(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id, lease_seconds=0.001)
    assert reap(database, mine.job_id, retry_seconds=60)
    job = row(database, mine.job_id)
    assert (job.state, job.failures, job.owner, job.finished_at) == ("queued", 1, None, None)
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    assert claim(database) is None
    assert types(database, mine.job_id)[-1] == "worker_lost"


def test_a_job_that_is_lost_at_every_attempt_fails(database: Database, project_id: str) -> None:
    job_id = create(database, project_id)
    for _ in range(3):
        assert claim(database, lease_seconds=0.001) is not None
        assert reap(database, job_id)
    job = row(database, job_id)
    assert (job.state, job.failures, job.attempt) == ("failed", 3, 3)
    assert job.finished_at is not None
    assert claim(database) is None


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id, lease_seconds=0.001)
    change(database, lambda session: jobs.cancel(session, mine.job_id))
    assert reap(database, mine.job_id)
    job = row(database, mine.job_id)
    assert (job.state, job.failures, job.error) == ("cancelled", 0, None)
    assert job.finished_at is not None


def test_reapers_that_run_at_once_count_a_loss_once(database: Database, project_id: str) -> None:
    lost = [claimed(database, project_id, lease_seconds=0.001).job_id for _ in range(10)]
    for job_id in lost:
        wait_for_the_end_of_the_lease(database, job_id)
    start = threading.Barrier(4)

    def sweep(_: int) -> list[str]:
        start.wait()
        with database.writer.begin() as session:
            return list(jobs.reap(session, 0))

    with ThreadPoolExecutor(4) as pool:
        reaped = [job_id for part in pool.map(sweep, range(4)) for job_id in part]
    assert sorted(reaped) == sorted(lost)
    assert {row(database, job_id).failures for job_id in lost} == {1}


# T9, T11


def test_cancel_of_a_queued_job_ends_it_at_once(database: Database, project_id: str) -> None:
    job_id = create(database, project_id)
    assert change(database, lambda session: jobs.cancel(session, job_id)) == "cancelled"
    job = row(database, job_id)
    assert job.finished_at is not None
    assert job.started_at is None
    assert claim(database) is None


def test_cancel_of_a_running_job_waits_for_its_owner(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    assert change(database, lambda session: jobs.cancel(session, mine.job_id)) == "running"
    job = row(database, mine.job_id)
    assert (job.cancel_requested, job.owner, job.finished_at) == (True, "wrk_1", None)
    change(database, lambda session: jobs.stop(session, mine))
    job = row(database, mine.job_id)
    assert (job.state, job.owner) == ("cancelled", None)
    assert types(database, mine.job_id) == ["queued", "started", "cancel_requested", "cancelled"]


def test_stop_without_a_request_changes_nothing(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.stop(session, mine))
    assert row(database, mine.job_id).state == "running"


def test_cancel_of_a_job_that_waits_for_its_next_attempt_ends_it(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.fail(session, mine, FAULT, 60.0))
    assert change(database, lambda session: jobs.cancel(session, mine.job_id)) == "cancelled"
    assert row(database, mine.job_id).state == "cancelled"


# T10


def test_a_fault_is_tried_again_after_a_back_off_that_doubles(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    waits = []
    for failures in range(2):
        with database.writer.begin() as session:
            before = session.scalar(select(now()))
            assert jobs.fail(session, mine, FAULT, 0.2) == "queued"
        job = row(database, mine.job_id)
        assert before is not None
        waits.append((job.not_before - before).total_seconds())
        assert (job.failures, job.error) == (failures + 1, FAULT)
        mine = wait_until(lambda: claim(database), what="the next attempt")
    assert 0.19 < waits[0] < 0.39 < waits[1] < 0.8


def test_the_back_off_has_an_upper_bound(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.fail(session, mine, FAULT, 1e6))
    job = row(database, mine.job_id)
    assert (job.not_before - job.created_at).total_seconds() < MAX_BACKOFF_SECONDS + 60


def test_the_last_attempt_fails_for_good(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    assert change(database, lambda session: jobs.fail(session, mine, FAULT, 0.0)) == "queued"
    for state in ("queued", "failed"):
        again = claim(database)
        assert again is not None
        assert change(database, lambda session, again=again: jobs.fail(session, again, FAULT, 0.0)) == state
    job = row(database, mine.job_id)
    assert (job.state, job.failures, job.error, job.owner) == ("failed", 3, FAULT, None)
    assert job.finished_at is not None


def test_bad_input_is_not_tried_again(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    assert change(database, lambda session: jobs.fail(session, mine, FAULT, None)) == "failed"
    assert row(database, mine.job_id).finished_at is not None
    assert claim(database) is None


def test_the_second_occurrence_of_a_program_fault_ends_the_job(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    here, there = ({"code": "fault", "detail": f"IndexError: 7 of 7, after {step} of 9 steps"} for step in (3, 4))
    for error, state in ((here, "queued"), (there, "queued"), (here, "failed")):
        assert change(database, lambda session, error=error, mine=mine: jobs.fail(session, mine, error, 0.0)) == state
        mine = claim(database) or mine
    job = row(database, mine.job_id)
    detail = f"{here['detail']}; attempt 1 failed in the same way, so it is not tried again"
    assert job.error == {"code": "repeated_fault", "detail": detail}
    assert (job.attempt, job.failures) == (3, 3)
    assert job.finished_at is not None


def test_a_fault_of_another_job_does_not_count(database: Database, project_id: str) -> None:
    fault = {"code": "fault", "detail": "IndexError: 7 of 7"}
    for _ in range(2):
        mine = claimed(database, project_id)
        assert change(database, lambda session, mine=mine: jobs.fail(session, mine, fault, 60.0)) == "queued"


def test_a_fault_recorded_by_an_earlier_release_is_not_compared(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)

    def told(session: Session) -> None:
        history.record_event(
            session, mine.job_id, 0, "error", "attempt_failed", "attempt 0 failed", {"state": "queued"}
        )

    change(database, told)
    fault = {"code": "fault", "detail": "IndexError: 7 of 7"}
    assert change(database, lambda session: jobs.fail(session, mine, fault, 0.0)) == "queued"


def test_a_failure_after_a_cancellation_is_a_cancellation(database: Database, project_id: str) -> None:
    mine = claimed(database, project_id)
    change(database, lambda session: jobs.cancel(session, mine.job_id))
    assert change(database, lambda session: jobs.fail(session, mine, FAULT, 0.0)) == "cancelled"
    job = row(database, mine.job_id)
    assert job.state == "cancelled"
    assert job.finished_at is not None
