"""What the reconciler repairs: lost messages (T2) and lost workers (T8)."""

from collections.abc import Sequence

from sqlalchemy import case, literal, null, select, update
from sqlalchemy.orm import Session

from service.jobs.history import record_event
from service.jobs.operations.announcing import ANNOUNCED, VERBS, announce, brief
from service.jobs.operations.clauses import TIMED_OUT, backoff, has_timed_out, without_owner
from service.jobs.operations.queue import FIRST_WAKE_SECONDS
from service.jobs.tables import Job
from service.shared.database import now
from service.shared.table_base import Json

MAX_WAKE_SECONDS = 600.0
MAX_WOKEN_AT_ONCE = 100
MAX_REAPED_AT_ONCE = 100
LOST = {"code": "worker_lost", "detail": "the worker did not renew its lease in time"}


def due(session: Session) -> Sequence[tuple[str, str]]:
    """T2: the (id, queue) of queued jobs that no worker has claimed and that are to be announced again.

    The next announcement is due after 30 s, from the fifth on after 2 minutes, from the tenth on after 10 minutes.
    """
    waiting = (
        select(Job.id)
        .where(Job.state == "queued", Job.dispatch_after <= now(), Job.not_before <= now())
        .order_by(Job.dispatch_after)
        .limit(MAX_WOKEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    wait = case(
        (Job.dispatches < 5, FIRST_WAKE_SECONDS),
        (Job.dispatches < 10, FIRST_WAKE_SECONDS * 4),
        else_=MAX_WAKE_SECONDS,
    )
    announced = session.execute(
        update(Job)
        .where(Job.id.in_(waiting))
        .values(dispatches=Job.dispatches + 1, dispatch_after=now(wait))
        .returning(Job.id, Job.queue)
    )
    return [(job_id, queue) for job_id, queue in announced]


def reap(session: Session, retry_seconds: float) -> Sequence[str]:
    """T8: take jobs from owners whose lease has expired. Returns their ids.

    A job is queued again, unless it was to be cancelled or paused, has timed out, or had its last attempt.
    """
    lost = (
        select(Job.id)
        .where(Job.state == "running", Job.lease_expires_at < now())
        .order_by(Job.lease_expires_at)
        .limit(MAX_REAPED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    had_last_attempt = Job.failures + 1 >= Job.max_attempts
    reaped = session.execute(
        update(Job)
        .where(Job.id.in_(lost), Job.state == "running")
        .values(
            state=case(
                (Job.cancel_requested, "cancelled"),
                (has_timed_out(), "failed"),
                (had_last_attempt, "failed"),
                (Job.pause_requested, "paused"),
                else_="queued",
            ),
            failures=Job.failures + case((Job.cancel_requested, 0), else_=1),
            error=case(
                (Job.cancel_requested, null()), (has_timed_out(), literal(TIMED_OUT, Json)), else_=literal(LOST, Json)
            ),
            finished_at=case((Job.cancel_requested | has_timed_out() | had_last_attempt, now()), else_=null()),
            not_before=now(backoff(retry_seconds)),
            dispatch_after=now(backoff(retry_seconds)),
            **without_owner(),
        )
        .returning(Job.id, Job.state, Job.error, *ANNOUNCED)
    ).all()
    for job in reaped:
        level = "info" if job.state == "cancelled" else "error"
        message = f"{LOST['detail']}: {job.state}"
        record_event(session, job.id, job.attempt, level, "worker_lost", message, {"state": job.state})
        announced = brief(job.error) if job.state == "failed" else {"reason": "worker_lost"}
        announce(session, job, VERBS[job.state], announced)
    return [job.id for job in reaped]
