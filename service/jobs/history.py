"""The events of a job, and the log of its attempts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.jobs.tables import FINAL_STATES, Job, JobEvent, JobLog
from service.shared.period import ANY_TIME, Period


def record_event(
    session: Session,
    job_id: str,
    attempt: int,
    level: str,
    type: str,
    message: str,
    data: dict[str, Any] | None = None,
) -> None:
    """Add an event to a job. level: info, warning or error. type: stable, for programs."""
    event = JobEvent(job_id=job_id, attempt=attempt, level=level, type=type, message=message, data=data or {})
    session.add(event)


def record_log(session: Session, job_id: str, attempt: int, text: str) -> None:
    """Store a piece of an attempt's standard error."""
    session.add(JobLog(job_id=job_id, attempt=attempt, text=text))


def events(session: Session, job_id: str, after: int, limit: int, period: Period = ANY_TIME) -> Sequence[JobEvent]:
    """At most `limit` events of a period after the event `after`, in order."""
    newer = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after, *period.of(JobEvent.created_at))
    return session.scalars(newer.order_by(JobEvent.id).limit(limit)).all()


def is_complete(session: Session, job_id: str, after: int) -> bool:
    """Whether a job has ended and has no event after the event `after`."""
    newer = select(JobEvent.id).where(JobEvent.job_id == job_id, JobEvent.id > after)
    complete = select(Job.id).where(Job.id == job_id, Job.state.in_(FINAL_STATES), ~newer.exists())
    return session.scalar(complete) is not None


def log_tail(session: Session, job_id: str, characters: int) -> str:
    """The last `characters` of the standard error of a job's attempts."""
    pieces: list[str] = []
    length = 0
    newest_first = select(JobLog.text).where(JobLog.job_id == job_id).order_by(JobLog.id.desc())
    for piece in session.scalars(newest_first.execution_options(yield_per=20)):
        pieces.append(piece)
        length += len(piece)
        if length >= characters:
            break
    return "".join(reversed(pieces))[-characters:]
