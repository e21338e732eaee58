"""What the owner of a running job reports: T4 to T7, T10 to T13."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import case, func, null, select, update
from sqlalchemy.orm import Session

from service.jobs.history import record_event
from service.jobs.operations.announcing import ANNOUNCED, VERBS, announce, brief
from service.jobs.operations.clauses import (
    MAX_BACKOFF_SECONDS,
    TIMED_OUT,
    backoff,
    ended,
    has_timed_out,
    owned,
    without_owner,
)
from service.jobs.operations.queue import Claim
from service.jobs.tables import Job, JobEvent
from service.shared.database import now

# The code of errors that another attempt would meet again: exceptions of the program, not of its surroundings.
FAULT = "fault"
ATTEMPT_FAILED = "attempt_failed"
# `waiting_reason` of jobs that no worker takes because a disk, a bucket or the database is full.
STORAGE_FULL = "storage_full"


class Lost(Exception):
    """The attempt is no longer the job's current one: its owner stops, and writes nothing."""


@dataclass(frozen=True)
class Progress:
    """How far a running job is; `fraction` from 0 to 1."""

    phase: str
    fraction: float
    eta_seconds: float | None


class Requests(NamedTuple):
    """What the owner of a running job has to do: cancel it, pause it, or end it because of its timeout."""

    cancel: bool
    pause: bool
    timed_out: bool

    def any(self) -> bool:
        """Whether the job has to stop now."""
        return self.cancel or self.pause or self.timed_out


def heartbeat(session: Session, claim: Claim, lease_seconds: float, progress: Progress) -> Requests:
    """T4: renew the lease and record the progress. Returns what the owner has to do.

    Raises Lost when the attempt is no longer the current one.
    """
    row = session.execute(
        owned(claim)
        .values(
            lease_expires_at=now(lease_seconds),
            phase=progress.phase,
            progress=progress.fraction,
            eta_seconds=progress.eta_seconds,
        )
        .returning(Job.cancel_requested, Job.pause_requested, has_timed_out())
    ).one_or_none()
    if row is None:
        raise Lost(claim.job_id)
    return Requests(*map(bool, row))


def renew(session: Session, claim: Claim, lease_seconds: float) -> None:
    """T4 without progress. It changes nothing for an attempt that is lost."""
    session.execute(owned(claim).values(lease_expires_at=now(lease_seconds)))


def succeed(session: Session, claim: Claim) -> None:
    """T6, in the transaction that adds the rows of the result. Raises Lost, so that it is rolled back."""
    changed = session.execute(
        owned(claim)
        .where(Job.cancel_requested.is_(False))
        .values(state="succeeded", progress=1.0, **ended())
        .returning(*ANNOUNCED)
    ).one_or_none()
    if changed is None:
        raise Lost(claim.job_id)
    record_event(session, claim.job_id, claim.attempt, "info", "succeeded", "succeeded")
    announce(session, changed, "succeeded")


def release(session: Session, claim: Claim) -> None:
    """T7: a worker that shuts down returns its job to the queue. It counts as a preemption, not as a failure."""
    changed = session.execute(
        owned(claim)
        .values(state="queued", preemptions=Job.preemptions + 1, dispatch_after=now(), **without_owner())
        .returning(*ANNOUNCED)
    ).one_or_none()
    if changed is not None:
        record_event(
            session,
            claim.job_id,
            claim.attempt,
            "warning",
            "released",
            "the worker shuts down: the job is queued again",
        )
        announce(session, changed, "requeued", {"reason": "released"})


def postpone(session: Session, claim: Claim, detail: str, retry_seconds: float) -> None:
    """T10: the job's files do not fit on the disk. It is queued again, which is no failure and no preemption.

    Workers take it once their disks have space. It waits for `retry_seconds` first, at least a second, doubled each
    time: a worker may see space where there is not enough for this job.
    """
    before = select(func.count()).where(JobEvent.job_id == claim.job_id, JobEvent.type == STORAGE_FULL)
    wait = min(MAX_BACKOFF_SECONDS, max(1.0, retry_seconds) * 2.0 ** min(session.scalar(before) or 0, 20))
    changed = session.execute(
        owned(claim)
        .values(
            state="queued",
            waiting_reason=STORAGE_FULL,
            not_before=now(wait),
            dispatch_after=now(wait),
            **without_owner(),
        )
        .returning(*ANNOUNCED)
    ).one_or_none()
    if changed is not None:
        message = f"waits for disk space, then resumes from its last checkpoint: {detail}"
        record_event(session, claim.job_id, claim.attempt, "warning", STORAGE_FULL, message)
        announce(session, changed, "requeued", {"reason": STORAGE_FULL})


def suspend(session: Session, claim: Claim) -> None:
    """T12: the owner has stopped a job that was to be paused."""
    changed = session.execute(
        owned(claim)
        .where(Job.pause_requested, Job.cancel_requested.is_(False))
        .values(state="paused", pause_requested=False, **without_owner())
        .returning(*ANNOUNCED)
    ).one_or_none()
    if changed is not None:
        record_event(session, claim.job_id, claim.attempt, "info", "paused", "paused")
        announce(session, changed, "paused")


def time_out(session: Session, claim: Claim) -> None:
    """T13: the owner has stopped a job that ran for longer than its timeout."""
    changed = session.execute(
        owned(claim)
        .where(Job.cancel_requested.is_(False), has_timed_out())
        .values(state="failed", error=TIMED_OUT, **ended())
        .returning(*ANNOUNCED)
    ).one_or_none()
    if changed is not None:
        record_event(session, claim.job_id, claim.attempt, "error", "timed_out", TIMED_OUT["detail"])
        announce(session, changed, "failed", brief(TIMED_OUT))


def fail(session: Session, claim: Claim, error: dict[str, Any], retry_seconds: float | None) -> str | None:
    """T10: the attempt failed. Try again after `retry_seconds`, doubled for every failure; with None never.

    `error` has `code`, `detail` and, for bad input, `errors`. A fault of the program that an earlier attempt had too,
    with the same detail, ends the job. Returns the new state, None when the claim was lost.
    """
    reported = error
    earlier = _attempt_with(session, claim, error) if retry_seconds is not None and error["code"] == FAULT else None
    if earlier is not None:
        detail = f"{error['detail']}; attempt {earlier} failed in the same way, so it is not tried again"
        error, retry_seconds = {**error, "code": "repeated_fault", "detail": detail}, None
    ends = Job.failures + 1 >= (Job.max_attempts if retry_seconds is not None else 0)
    wait = backoff(retry_seconds or 0.0)
    changed = session.execute(
        owned(claim)
        .values(
            state=case((Job.cancel_requested, "cancelled"), (ends, "failed"), else_="queued"),
            failures=Job.failures + 1,
            error=error,
            finished_at=case((Job.cancel_requested | ends, now()), else_=null()),
            not_before=now(wait),
            dispatch_after=now(wait),
            **without_owner(),
        )
        .returning(Job.state, *ANNOUNCED)
    ).one_or_none()
    if changed is None:
        return None
    message = f"attempt {claim.attempt} failed: {error['detail']}"
    data = {"state": changed.state, "code": reported["code"], "detail": reported["detail"]}
    record_event(session, claim.job_id, claim.attempt, "error", ATTEMPT_FAILED, message, data)
    announced = {} if changed.state == "cancelled" else brief(error)
    if changed.state == "queued":
        announced["reason"] = ATTEMPT_FAILED
    announce(session, changed, VERBS[changed.state], announced)
    return str(changed.state)


def stop(session: Session, claim: Claim) -> None:
    """T11: the owner has stopped a job that was to be cancelled."""
    changed = session.execute(
        owned(claim).where(Job.cancel_requested).values(state="cancelled", **ended()).returning(*ANNOUNCED)
    ).one_or_none()
    if changed is not None:
        record_event(session, claim.job_id, claim.attempt, "info", "cancelled", "cancelled")
        announce(session, changed, "cancelled")


def set_waiting_reason(session: Session, queue: str, reason: str | None) -> None:
    """Record why no worker takes the queued jobs of a queue; None when nothing prevents it."""
    other = Job.waiting_reason.is_distinct_from(reason)
    session.execute(update(Job).where(Job.queue == queue, Job.state == "queued", other).values(waiting_reason=reason))


def state_after(session: Session, claim: Claim) -> str:
    """The state in which an attempt has left its job; `lost` when another attempt has begun."""
    state = session.scalar(select(Job.state).where(Job.id == claim.job_id, Job.attempt == claim.attempt))
    return state or "lost"


def _attempt_with(session: Session, claim: Claim, error: dict[str, Any]) -> int | None:
    """An earlier attempt that failed with the same code and detail, or None."""
    failed = select(JobEvent).where(JobEvent.job_id == claim.job_id, JobEvent.type == ATTEMPT_FAILED)
    same = (error["code"], error["detail"])
    for event in session.scalars(failed.order_by(JobEvent.id.desc())):
        # the events of earlier releases have no detail
        if (event.data.get("code"), event.data.get("detail")) == same and event.attempt < claim.attempt:
            return event.attempt
    return None
