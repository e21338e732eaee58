"""What users request: T1, T9, T12, and the deletion of a job that has ended."""

from sqlalchemy import case, delete, func, null, select, update
from sqlalchemy.orm import Session

from service.jobs.history import record_event
from service.jobs.tables import FINAL_STATES, Job, JobEvent, JobLog, Worker
from service.shared import telemetry
from service.shared.database import now
from service.shared.errors import Conflict
from service.shared.table_base import new_id

# A queued job is announced again after 30 s at first; see `recovery.due`.
FIRST_WAKE_SECONDS = 30.0


def create(
    session: Session,
    project_id: str,
    kind: str,
    queue: str,
    priority: int = 0,
    max_attempts: int = 3,
    timeout_seconds: float | None = None,
    devices: int = 1,
) -> Job:
    """T1: a new queued job. The caller commits, and only then wakes a worker.

    timeout_seconds: from the first start to the end. Pauses and the wait for another attempt count.
    """
    job = Job(
        id=new_id("job"),
        project_id=project_id,
        kind=kind,
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        timeout_seconds=timeout_seconds,
        devices=devices,
        dispatches=1,
        request_id=telemetry.serving.get(),
        dispatch_after=now(FIRST_WAKE_SECONDS),
    )
    session.add(job)
    session.flush()
    record_event(session, job.id, 0, "info", "queued", f"queued for a {queue} worker")
    return job


def queued_count(session: Session, project_id: str, kind: str) -> int:
    """The number of queued jobs of one kind that a project has."""
    queued = select(func.count()).where(Job.project_id == project_id, Job.kind == kind, Job.state == "queued")
    return session.scalar(queued) or 0


def cancel(session: Session, job_id: str) -> str:
    """T9: cancel a queued job at once; ask the owner of a running one to stop. Returns the new state.

    Raises Conflict when the job has ended.
    """
    state: str | None = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.state.not_in(FINAL_STATES))
        .values(
            cancel_requested=True,
            state=case((Job.state == "running", Job.state), else_="cancelled"),
            finished_at=case((Job.state == "running", null()), else_=now()),
        )
        .returning(Job.state)
    )
    if state is None:
        ended = session.scalar(select(Job.state).where(Job.id == job_id))
        raise Conflict("job_has_ended", f"it has {ended} already and cannot be cancelled")
    if state == "cancelled":
        record_event(session, job_id, 0, "info", "cancelled", "cancelled before a worker claimed it")
    else:
        record_event(session, job_id, 0, "info", "cancel_requested", "cancellation was requested")
    return state


def pause(session: Session, job_id: str) -> str:
    """T12: pause a queued job at once; ask the owner of a running one to pause. Returns the new state.

    Raises Conflict when the job has ended. A paused job stays as it is.
    """
    state: str | None = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.state.in_(("queued", "running")))
        .values(pause_requested=Job.state == "running", state=case((Job.state == "running", Job.state), else_="paused"))
        .returning(Job.state)
    )
    if state is None:
        return _unless_ended(session, job_id, "paused")
    if state == "paused":
        record_event(session, job_id, 0, "info", "paused", "paused before a worker claimed it")
    else:
        record_event(session, job_id, 0, "info", "pause_requested", "a pause was requested")
    return state


def resume(session: Session, job_id: str) -> str:
    """T12: queue a paused job again; withdraw the request to pause a running one. Returns the new state.

    Raises Conflict when the job has ended. The caller commits, and only then wakes a worker.
    """
    state: str | None = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.state.not_in(FINAL_STATES), (Job.state == "paused") | Job.pause_requested)
        .values(
            pause_requested=False,
            state=case((Job.state == "paused", "queued"), else_=Job.state),
            not_before=now(),
            dispatches=1,
            dispatch_after=now(FIRST_WAKE_SECONDS),
        )
        .returning(Job.state)
    )
    if state is None:
        return _unless_ended(session, job_id, "resumed")
    record_event(session, job_id, 0, "info", "resumed", "resumed")
    return state


def remove(session: Session, job_id: str) -> None:
    """Delete a job that has ended, with its events and log. Its kind has deleted the rows that refer to it."""
    session.execute(update(Worker).where(Worker.job_id == job_id).values(job_id=None))
    for of_job in (JobEvent, JobLog):
        session.execute(delete(of_job).where(of_job.job_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id, Job.state.in_(FINAL_STATES)))


def _unless_ended(session: Session, job_id: str, what: str) -> str:
    state = session.scalar(select(Job.state).where(Job.id == job_id))
    if state is None or state in FINAL_STATES:
        raise Conflict("job_has_ended", f"it has {state} already and cannot be {what}")
    return state
