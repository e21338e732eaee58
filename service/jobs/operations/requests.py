"""What users request of a job: T9, T12, and the deletion of a job that has ended."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import case, delete, null, select, update
from sqlalchemy.orm import Session

from service.jobs.history import record_event
from service.jobs.operations.announcing import ANNOUNCED, announce
from service.jobs.operations.queue import FIRST_WAKE_SECONDS
from service.jobs.tables import FINAL_STATES, Job, JobEvent, JobLog, Worker
from service.shared.database import now
from service.shared.errors import Conflict

# What T9 sets: a running job is only asked to stop.
_CANCELLED: dict[str, Any] = {
    "cancel_requested": True,
    "state": case((Job.state == "running", Job.state), else_="cancelled"),
    "finished_at": case((Job.state == "running", null()), else_=now()),
}


def cancel(session: Session, job_id: str) -> str:
    """T9: cancel a queued job at once; ask the owner of a running one to stop. Returns the new state.

    Raises Conflict when the job has ended.
    """
    job = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state.not_in(FINAL_STATES))
        .values(**_CANCELLED)
        .returning(Job.id, Job.state, *ANNOUNCED)
    ).one_or_none()
    if job is None:
        ended = session.scalar(select(Job.state).where(Job.id == job_id))
        raise Conflict("job_has_ended", f"it has {ended} already and cannot be cancelled")
    _tell_cancellation(session, job)
    return str(job.state)


def cancel_all(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    """T9 for several jobs at once. Returns job id -> new state, without the jobs that have ended.

    A running job whose owner was asked before is not asked again. All transactions lock jobs in the order of their
    ids, so that two of them do not wait for each other.
    """
    unfinished = select(Job.id, Job.cancel_requested).where(Job.id.in_(job_ids), Job.state.not_in(FINAL_STATES))
    locked = session.execute(unfinished.order_by(Job.id).with_for_update())
    asked_before = {row.id: row.cancel_requested for row in locked}
    changed = session.execute(
        update(Job)
        .where(Job.id.in_(asked_before), Job.state.not_in(FINAL_STATES))
        .values(**_CANCELLED)
        .returning(Job.id, Job.state, *ANNOUNCED)
        .execution_options(synchronize_session=False)
    ).all()
    for job in changed:
        if job.state == "cancelled" or not asked_before[job.id]:
            _tell_cancellation(session, job)
    return {job.id: job.state for job in changed}


def pause(session: Session, job_id: str) -> str:
    """T12: pause a queued job at once; ask the owner of a running one to pause. Returns the new state.

    Raises Conflict when the job has ended. A paused job stays as it is.
    """
    job = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state.in_(("queued", "running")))
        .values(pause_requested=Job.state == "running", state=case((Job.state == "running", Job.state), else_="paused"))
        .returning(Job.state, *ANNOUNCED)
    ).one_or_none()
    if job is None:
        return _unless_ended(session, job_id, "paused")
    if job.state == "paused":
        record_event(session, job_id, 0, "info", "paused", "paused before a worker claimed it")
        announce(session, job, "paused")
    else:
        record_event(session, job_id, 0, "info", "pause_requested", "a pause was requested")
        announce(session, job, "changed", {"changed": ["pause_requested"]})
    return str(job.state)


def resume(session: Session, job_id: str) -> str:
    """T12: queue a paused job again; withdraw the request to pause a running one. Returns the new state.

    Raises Conflict when the job has ended. The caller commits, and only then wakes a worker.
    """
    job = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state.not_in(FINAL_STATES), (Job.state == "paused") | Job.pause_requested)
        .values(
            pause_requested=False,
            state=case((Job.state == "paused", "queued"), else_=Job.state),
            not_before=now(),
            dispatches=1,
            dispatch_after=now(FIRST_WAKE_SECONDS),
        )
        .returning(Job.state, *ANNOUNCED)
    ).one_or_none()
    if job is None:
        return _unless_ended(session, job_id, "resumed")
    record_event(session, job_id, 0, "info", "resumed", "resumed")
    if job.state == "queued":
        announce(session, job, "requeued", {"reason": "resumed"})
    else:
        announce(session, job, "changed", {"changed": ["pause_requested"]})
    return str(job.state)


def remove(session: Session, job_id: str) -> None:
    """Delete a job that has ended, with its events and log. Its kind has deleted the rows that refer to it."""
    session.execute(update(Worker).where(Worker.job_id == job_id).values(job_id=None))
    for of_job in (JobEvent, JobLog):
        session.execute(delete(of_job).where(of_job.job_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id, Job.state.in_(FINAL_STATES)))


def _tell_cancellation(session: Session, job: Any) -> None:
    """Record in the job's history, and announce, what T9 did. job: its columns `state` and `ANNOUNCED`."""
    if job.state == "cancelled":
        record_event(session, job.id, 0, "info", "cancelled", "cancelled before a worker claimed it")
        announce(session, job, "cancelled")
    else:
        record_event(session, job.id, 0, "info", "cancel_requested", "cancellation was requested")
        announce(session, job, "changed", {"changed": ["cancel_requested"]})


def _unless_ended(session: Session, job_id: str, what: str) -> str:
    state = session.scalar(select(Job.state).where(Job.id == job_id))
    if state is None or state in FINAL_STATES:
        raise Conflict("job_has_ended", f"it has {state} already and cannot be {what}")
    return state
