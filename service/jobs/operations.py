"""The transitions of a job: the only place that changes a job's state.

Each is one statement whose WHERE is its guard, so that any number of processes may try it at once. `attempt` is the
fencing token: an owner that lost its lease matches no row and must write nothing.

    T1  create           -> queued                          T8   reap      running -> queued, failed, cancelled, paused
    T2  due              queued, to be woken again          T9   cancel    queued, paused -> cancelled; running: flagged
    T3  claim            queued -> running                  T10  fail      running -> queued or failed
                                                                 hold      running -> queued, waits for space
    T4  heartbeat        running, lease renewed             T11  stop      running -> cancelled
    T5  heartbeat, and the checkpoint's row in the same     T12  pause     queued -> paused; running: flagged
        transaction: what fences one fences the other            suspend   running -> paused
    T6  succeed          running -> succeeded                    resume    paused -> queued
    T7  release          running -> queued (drain)          T13  time_out  running -> failed
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ScalarSelect,
    Update,
    case,
    false,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from service.access.tables import Project
from service.jobs.history import record_event
from service.jobs.tables import FINAL_STATES, Job, JobEvent
from service.shared import telemetry
from service.shared.database import now
from service.shared.errors import Conflict
from service.shared.table_base import Json, new_id

# A queued job is announced every 30 s at first, then every 2 minutes, then every 10.
FIRST_WAKE_SECONDS = 30.0
LAST_WAKE_SECONDS = 600.0
WAKES_AT_ONCE = 100
REAPED_AT_ONCE = 100
# The kind of job that the limits of a project count.
RUN = "train"
LONGEST_BACKOFF_SECONDS = 600.0
# The code of errors that the same work meets again: exceptions of the program, not of its surroundings.
FAULT = "fault"
ATTEMPT_FAILED = "attempt_failed"


# `waiting_reason` of jobs that no worker takes because a disk, a bucket or the database is full.
STORAGE_FULL = "storage_full"
TIMED_OUT = {"code": "timeout", "detail": "it ran for longer than its timeout_seconds"}


class Lost(Exception):
    """The attempt is not the job's current one any more: stop, and write nothing."""


@dataclass(frozen=True)
class Claim:
    """What a worker got: the job and the attempt that fences its writes."""

    job_id: str
    project_id: str
    kind: str
    attempt: int
    request_id: str | None = None


@dataclass(frozen=True)
class Progress:
    """Where a running job stands; `fraction` from 0 to 1."""

    phase: str
    fraction: float
    eta_seconds: float | None


class Requests(NamedTuple):
    """What the owner of a running job is asked for: to stop it for good, to pause it, or to end it as too long."""

    cancel: bool
    pause: bool
    timed_out: bool

    def any(self) -> bool:
        """Whether the job has to stop now."""
        return self.cancel or self.pause or self.timed_out


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

    timeout_seconds: from the first start to the end, pauses and waiting for another attempt included.
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


def due(session: Session) -> Sequence[tuple[str, str]]:
    """T2: the (id, queue) of queued jobs nobody has taken up. Their next announcement is pushed out."""
    waiting = (
        select(Job.id)
        .where(Job.state == "queued", Job.dispatch_after <= now(), Job.not_before <= now())
        .order_by(Job.dispatch_after)
        .limit(WAKES_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    wait = case(
        (Job.dispatches < 5, FIRST_WAKE_SECONDS),
        (Job.dispatches < 10, FIRST_WAKE_SECONDS * 4),
        else_=LAST_WAKE_SECONDS,
    )
    announced = session.execute(
        update(Job)
        .where(Job.id.in_(waiting))
        .values(dispatches=Job.dispatches + 1, dispatch_after=now(wait))
        .returning(Job.id, Job.queue)
    )
    return [(job_id, queue) for job_id, queue in announced]


def claim(
    session: Session,
    queue: str,
    owner: str,
    lease_seconds: float,
    devices: int = 1,
    most_running_runs: int | None = None,
) -> Claim | None:
    """T3: take the first job of a queue that needs no more devices than the owner has. None when nothing is due.

    The highest priority first; among equals the project that has waited longest since one of its jobs was taken, and
    of that its oldest job. A project that has as many runs at work as it may is passed over: its own limit, else
    most_running_runs. PostgreSQL skips rows another worker is taking; on SQLite the write lock makes claims take turns.
    """
    most = func.coalesce(Project.most_running_runs, literal(most_running_runs, BigInteger()))
    first = (
        select(Job.id)
        .join(Project, Project.id == Job.project_id)
        .where(Job.queue == queue, Job.state == "queued", Job.not_before <= now(), Job.devices <= devices)
        .where(or_(most.is_(None), Job.kind != RUN, _runs_at_work(Project.id) < most))
        .order_by(Job.priority.desc(), Project.served_at.asc().nulls_first(), Job.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=Job)
        .scalar_subquery()
    )
    taking = session.begin_nested()
    row = session.execute(
        update(Job)
        .where(Job.id == first, Job.state == "queued")
        .values(
            state="running",
            attempt=Job.attempt + 1,
            owner=owner,
            lease_expires_at=now(lease_seconds),
            started_at=case((Job.started_at.is_(None), now()), else_=Job.started_at),
            phase="starting",
            progress=0.0,
            eta_seconds=None,
            error=None,
            waiting_reason=None,
        )
        .returning(Job.id, Job.project_id, Job.kind, Job.attempt, Job.request_id)
    ).one_or_none()
    if row is None:
        return None
    # Locks the project: of workers that took its last free places at once, the later ones see the earlier ones' runs.
    served = update(Project).where(Project.id == row.project_id).values(served_at=now())
    at_work, allowed = session.execute(served.returning(_runs_at_work(Project.id), most)).one()
    if row.kind == RUN and allowed is not None and at_work > allowed:
        taking.rollback()
        return None
    record_event(session, row.id, row.attempt, "info", "started", f"attempt {row.attempt} started by {owner}")
    return Claim(row.id, row.project_id, row.kind, row.attempt, row.request_id)


def _runs_at_work(project_id: InstrumentedAttribute[str]) -> ScalarSelect[int]:
    other = aliased(Job)
    running = select(func.count()).where(other.project_id == project_id, other.kind == RUN, other.state == "running")
    return running.scalar_subquery()


def heartbeat(session: Session, claim: Claim, lease_seconds: float, progress: Progress) -> Requests:
    """T4: renew the lease and say where the job stands. Returns what is asked of its owner.

    Raises Lost when the attempt is no longer the current one.
    """
    row = session.execute(
        _own(claim)
        .values(
            lease_expires_at=now(lease_seconds),
            phase=progress.phase,
            progress=progress.fraction,
            eta_seconds=progress.eta_seconds,
        )
        .returning(Job.cancel_requested, Job.pause_requested, _timed_out())
    ).one_or_none()
    if row is None:
        raise Lost(claim.job_id)
    return Requests(*map(bool, row))


def renew(session: Session, claim: Claim, lease_seconds: float) -> None:
    """T4 without news: hold on to a job while there is nothing to say. An attempt that is lost changes nothing."""
    session.execute(_own(claim).values(lease_expires_at=now(lease_seconds)))


def succeed(session: Session, claim: Claim) -> None:
    """T6: the outcome's rows were added in this same transaction. Raises Lost, so that it rolls back."""
    changed = session.scalar(
        _own(claim)
        .where(Job.cancel_requested.is_(False))
        .values(state="succeeded", progress=1.0, **_ended())
        .returning(Job.id)
    )
    if changed is None:
        raise Lost(claim.job_id)
    record_event(session, claim.job_id, claim.attempt, "info", "succeeded", "succeeded")


def release(session: Session, claim: Claim) -> None:
    """T7: a worker that is told to stop gives its job back; that is a preemption, not a failure."""
    changed = session.scalar(
        _own(claim)
        .values(state="queued", preemptions=Job.preemptions + 1, dispatch_after=now(), **_unowned())
        .returning(Job.id)
    )
    if changed is not None:
        record_event(session, claim.job_id, claim.attempt, "warning", "released", "the worker stops: queued again")


def hold(session: Session, claim: Claim, detail: str, retry_seconds: float) -> None:
    """T10: no space is left for what the job writes. It is queued again; that is neither a failure nor a preemption.

    Workers take it once their disks have space. Where that cannot be seen, or is not enough for this job, it waits for
    `retry_seconds`, at least a second, doubled each time.
    """
    before = select(func.count()).where(JobEvent.job_id == claim.job_id, JobEvent.type == STORAGE_FULL)
    backoff = min(LONGEST_BACKOFF_SECONDS, max(1.0, retry_seconds) * 2.0 ** min(session.scalar(before) or 0, 20))
    changed = session.scalar(
        _own(claim)
        .values(
            state="queued",
            waiting_reason=STORAGE_FULL,
            not_before=now(backoff),
            dispatch_after=now(backoff),
            **_unowned(),
        )
        .returning(Job.id)
    )
    if changed is not None:
        message = f"waits for space, and goes on from its last checkpoint: {detail}"
        record_event(session, claim.job_id, claim.attempt, "warning", STORAGE_FULL, message)


def say_why(session: Session, queue: str, reason: str | None) -> None:
    """Say of a queue's jobs why no worker takes them, or that nothing keeps one from it any more."""
    other = Job.waiting_reason.is_distinct_from(reason)
    session.execute(update(Job).where(Job.queue == queue, Job.state == "queued", other).values(waiting_reason=reason))


def reap(session: Session, retry_seconds: float) -> Sequence[str]:
    """T8: jobs whose owner's lease ran out. Queued again, failed at the last attempt, or cancelled if asked for."""
    lost = (
        select(Job.id)
        .where(Job.state == "running", Job.lease_expires_at < now())
        .order_by(Job.lease_expires_at)
        .limit(REAPED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    error = {"code": "worker_lost", "detail": "the worker was not heard of for the length of its lease"}
    reaped = session.execute(
        update(Job)
        .where(Job.id.in_(lost), Job.state == "running")
        .values(
            state=case(
                (Job.cancel_requested, "cancelled"),
                (_timed_out(), "failed"),
                (Job.failures + 1 >= Job.max_attempts, "failed"),
                (Job.pause_requested, "paused"),
                else_="queued",
            ),
            failures=Job.failures + case((Job.cancel_requested, 0), else_=1),
            error=case(
                (Job.cancel_requested, null()), (_timed_out(), literal(TIMED_OUT, Json)), else_=literal(error, Json)
            ),
            finished_at=case(
                (Job.cancel_requested | _timed_out() | (Job.failures + 1 >= Job.max_attempts), now()), else_=null()
            ),
            not_before=now(_backoff(retry_seconds)),
            dispatch_after=now(_backoff(retry_seconds)),
            **_unowned(),
        )
        .returning(Job.id, Job.attempt, Job.state)
    ).all()
    for job_id, attempt, state in reaped:
        level = "info" if state == "cancelled" else "error"
        record_event(session, job_id, attempt, level, "worker_lost", f"{error['detail']}: {state}", {"state": state})
    return [job_id for job_id, _, _ in reaped]


def cancel(session: Session, job_id: str) -> str:
    """T9: a queued job is cancelled at once, a running one is asked to stop. Returns the state it is in now.

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
        record_event(session, job_id, 0, "info", "cancelled", "cancelled before a worker had it")
    else:
        record_event(session, job_id, 0, "info", "cancel_requested", "cancellation was asked for")
    return state


def pause(session: Session, job_id: str) -> str:
    """T12: a queued job is paused at once, a running one is asked to. Returns the state it is in now.

    Raises Conflict when the job has ended; a paused one stays as it is.
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
        record_event(session, job_id, 0, "info", "paused", "paused before a worker had it")
    else:
        record_event(session, job_id, 0, "info", "pause_requested", "a pause was asked for")
    return state


def suspend(session: Session, claim: Claim) -> None:
    """T12: the owner has stopped what was asked to be paused."""
    changed = session.scalar(
        _own(claim)
        .where(Job.pause_requested, Job.cancel_requested.is_(False))
        .values(state="paused", pause_requested=False, **_unowned())
        .returning(Job.id)
    )
    if changed is not None:
        record_event(session, claim.job_id, claim.attempt, "info", "paused", "paused")


def resume(session: Session, job_id: str) -> str:
    """T12: a paused job is queued again, and one that has not paused yet goes on. Returns the state it is in now.

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
    record_event(session, job_id, 0, "info", "resumed", "goes on")
    return state


def time_out(session: Session, claim: Claim) -> None:
    """T13: the owner has stopped what has taken too long."""
    changed = session.scalar(
        _own(claim)
        .where(Job.cancel_requested.is_(False), _timed_out())
        .values(state="failed", error=TIMED_OUT, **_ended())
        .returning(Job.id)
    )
    if changed is not None:
        record_event(session, claim.job_id, claim.attempt, "error", "timed_out", TIMED_OUT["detail"])


def fail(session: Session, claim: Claim, error: dict[str, Any], retry_seconds: float | None) -> str | None:
    """T10: the attempt failed. A fault is tried again after `retry_seconds`, doubled each time; None never retries.

    `error` has `code`, `detail` and, for bad input, `errors`. A fault of the program that an earlier attempt had too,
    with the same detail, ends the job. Returns the new state, None when the claim was lost.
    """
    told = error
    earlier = _attempt_with(session, claim, error) if retry_seconds is not None and error["code"] == FAULT else None
    if earlier is not None:
        detail = f"{error['detail']}; attempt {earlier} failed in the same way, so it is not tried again"
        error, retry_seconds = {**error, "code": "repeated_fault", "detail": detail}, None
    ends = Job.failures + 1 >= (Job.max_attempts if retry_seconds is not None else 0)
    backoff = _backoff(retry_seconds or 0.0)
    state: str | None = session.scalar(
        _own(claim)
        .values(
            state=case((Job.cancel_requested, "cancelled"), (ends, "failed"), else_="queued"),
            failures=Job.failures + 1,
            error=error,
            finished_at=case((Job.cancel_requested | ends, now()), else_=null()),
            not_before=now(backoff),
            dispatch_after=now(backoff),
            **_unowned(),
        )
        .returning(Job.state)
    )
    if state is not None:
        message = f"attempt {claim.attempt} failed: {error['detail']}"
        data = {"state": state, "code": told["code"], "detail": told["detail"]}
        record_event(session, claim.job_id, claim.attempt, "error", ATTEMPT_FAILED, message, data)
    return state


def state_after(session: Session, claim: Claim) -> str:
    """The state in which an attempt has left its job; lost, when another attempt has begun."""
    state = session.scalar(select(Job.state).where(Job.id == claim.job_id, Job.attempt == claim.attempt))
    return state or "lost"


def stop(session: Session, claim: Claim) -> None:
    """T11: the owner has stopped what was asked to be cancelled."""
    changed = session.scalar(
        _own(claim).where(Job.cancel_requested).values(state="cancelled", **_ended()).returning(Job.id)
    )
    if changed is not None:
        record_event(session, claim.job_id, claim.attempt, "info", "cancelled", "cancelled")


def _attempt_with(session: Session, claim: Claim, error: dict[str, Any]) -> int | None:
    """An earlier attempt that failed with the same code and detail; None where there was none."""
    failed = select(JobEvent).where(JobEvent.job_id == claim.job_id, JobEvent.type == ATTEMPT_FAILED)
    same = (error["code"], error["detail"])
    for event in session.scalars(failed.order_by(JobEvent.id.desc())):
        # events of earlier versions have no detail, and compare with nothing
        if (event.data.get("code"), event.data.get("detail")) == same and event.attempt < claim.attempt:
            return event.attempt
    return None


def _unless_ended(session: Session, job_id: str, what: str) -> str:
    state = session.scalar(select(Job.state).where(Job.id == job_id))
    if state is None or state in FINAL_STATES:
        raise Conflict("job_has_ended", f"it has {state} already and cannot be {what}")
    return state


def _timed_out() -> ColumnElement[bool]:
    # false, not null, for jobs without a limit or a start
    return func.coalesce(Job.started_at < now(-Job.timeout_seconds), false())


def _own(claim: Claim) -> Update:
    return (
        update(Job)
        .where(Job.id == claim.job_id, Job.state == "running", Job.attempt == claim.attempt)
        .execution_options(synchronize_session=False)
    )


def _unowned() -> dict[str, Any]:
    return {"owner": None, "lease_expires_at": None, "phase": None, "eta_seconds": None, "dispatches": 0}


def _ended() -> dict[str, Any]:
    return {"owner": None, "lease_expires_at": None, "phase": None, "eta_seconds": None, "finished_at": now()}


def _backoff(first_seconds: float) -> Any:
    """`first_seconds`, doubled for every failure so far, in SQL."""
    doubled = first_seconds * case(
        {n: float(2**n) for n in range(8)},
        value=Job.failures,
        else_=LONGEST_BACKOFF_SECONDS / max(first_seconds, 1e-9),
    )
    return case((doubled > LONGEST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS), else_=doubled)
