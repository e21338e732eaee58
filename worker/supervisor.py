"""Claims jobs, has a child process do each, and commits what came of it. SQL decides; the attempt fences."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from service.access import quotas
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost, Requests
from service.shared import storage, telemetry
from service.shared.errors import TooMany
from service.shared.full_disk import tells_of_full
from service.shared.outage import Outage
from service.shared.storage import CorruptArtifact, Stored
from service.shared.ticker import Ticker
from worker import fault, kinds, measured
from worker.child import Child
from worker.context import Context
from worker.kinds import KINDS, Work
from worker.news import News

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

DATABASE_AWAY = (OperationalError, InterfaceError)
RETRY_SECONDS = 1.0


def work(context: Context, queue: str) -> None:
    """Do what is due on a queue, one job after the other, until nothing is or the worker is told to stop.

    A worker does one job at a time: when it is at work already, this returns, and what is due is not missed.
    """
    if not context.turn.acquire(blocking=False):
        return
    try:
        while not context.draining.is_set() and _has_space(context, queue):
            with context.database.writer.begin() as session:
                lease, devices = context.settings.lease_seconds, len(context.settings.devices)
                claim = jobs.claim(session, queue, context.owner, lease, devices, context.settings.project_running_runs)
                about = kinds.about(session, claim) if claim is not None else {}
            if claim is None:
                return
            began_at = time.monotonic()
            context.job_id, context.renewed_at = claim.job_id, began_at
            measured.CLAIMED.labels(claim.kind).inc()
            with bound_contextvars(**telemetry.of_job(claim.job_id, claim.request_id), **about):
                log.info("job_claimed", kind=claim.kind, attempt=claim.attempt)
                _attend(context, claim)
                _say_end(context, claim, time.monotonic() - began_at)
            context.idle_since = time.monotonic()
    finally:
        context.job_id = None
        context.turn.release()
        if not context.draining.is_set():
            context.children.prepare()


def _say_end(context: Context, claim: Claim, seconds: float) -> None:
    """One line for every attempt, whatever became of it: the job's state as it was left."""
    try:
        with context.database.reader() as session:
            state = jobs.state_after(session, claim)
    except DATABASE_AWAY:
        state = "unknown"
    log.info("job_ended", kind=claim.kind, attempt=claim.attempt, state=state, duration_seconds=round(seconds, 3))


def _has_space(context: Context, queue: str) -> bool:
    """Whether jobs can write what they make. While they cannot, those that are queued say so."""
    full = context.storage.space.full()
    if full or context.lacks_space is not False:
        with context.database.writer.begin() as session:
            jobs.say_why(session, queue, jobs.STORAGE_FULL if full else None)
        if full and not context.lacks_space:
            log.warning("storage_full", places=full)
        context.lacks_space = bool(full)
    if full:
        context.idle_since = time.monotonic()  # it is not deaf
    return not full


def _attend(context: Context, claim: Claim) -> None:
    """Do one job, whatever happens to it."""
    lease_seconds = context.settings.lease_seconds

    def renew() -> None:
        with context.database.writer.begin() as session:
            jobs.renew(session, claim, lease_seconds)
        context.renewed_at = time.monotonic()

    # Beside the heartbeats, which pause while a large file is verified or stored, and while a child takes to stop.
    lease = Ticker("lease", lease_seconds / 4, renew)
    lease.start()
    try:
        outcome = _do(context, claim)
    except Lost:
        outcome = "lost"
        log.warning("job_lost", attempt=claim.attempt)
    except TooMany as error:  # to try again would be in vain until something is deleted
        outcome = "failed"
        _fail(context, claim, {"code": error.code, "detail": error.detail}, retry=False)
    except Exception as error:  # a fault of ours is the attempt's, not the worker's
        outcome = "stopped" if tells_of_full(error) else "failed"
        log.exception("job_not_attended")
        if outcome == "stopped":
            _hold(context, claim, "its files could not be stored")
        else:
            _fail(context, claim, fault.described(error, *DATABASE_AWAY), retry=True)
    finally:
        lease.close()
    measured.ENDED.labels(claim.kind, outcome).inc()


def _do(context: Context, claim: Claim) -> str:
    """Returns the child's last word."""
    scratch = context.settings.scratch
    for left_behind in scratch.glob(f"{claim.job_id}-*"):  # by an attempt that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    folder = scratch / f"{claim.job_id}-{claim.attempt}"
    folder.mkdir(parents=True)
    try:
        with context.database.reader() as session:
            kind = KINDS[claim.kind](session, claim)
        try:
            paths = {"result": str(folder.absolute() / "result"), "checkpoints": str(folder)}
            spec = {**kind.spec(context), **paths, **telemetry.of_job(claim.job_id, claim.request_id)}
        except CorruptArtifact as error:
            _fail(context, claim, {"code": "artifact_corrupt", "detail": str(error)}, retry=False)
            return "failed"
        with context.children.start(kind.program, kind.devices, spec) as child:
            last = _follow(context, claim, kind, child)
            _conclude(context, claim, kind, child, last)
            return str(last["event"]) if last else "failed"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(context: Context, claim: Claim, kind: Work, child: Child) -> dict[str, Any] | None:
    """Keep the lease and what the child reports until it ends, or stop it. Returns its last word, if it had one.

    Raises Lost when another owner has the job, or it was reaped, and TooMany for a checkpoint that has no room.
    """
    settings = context.settings
    news = News(claim, kind, context.storage)
    heartbeats = Outage(log, "heartbeats_not_saved", "heartbeats_saved_again")
    ended = saved = stopped = False
    lacks_space: list[str] = []
    requests = Requests(cancel=False, pause=False, timed_out=False)
    while not (ended and saved):
        ended = child.wait(settings.heartbeat_seconds)
        news.hear(child)
        try:
            with context.database.writer.begin() as session:
                requests = news.save(session, settings)
            context.renewed_at = time.monotonic()
            heartbeats.works("heartbeat")
            news.forget()
            saved = True
        except DATABASE_AWAY as error:
            heartbeats.failed("heartbeat", error)
            measured.UNSAVED.inc()
            saved = False
            time.sleep(RETRY_SECONDS)
        except TooMany:
            _discard(context, news.files())
            raise
        lacks_space = lacks_space or context.storage.space.full()
        if not ended and (requests.any() or context.draining.is_set() or lacks_space):
            child.stop(settings.trainer_stop_seconds)
            stopped = True  # once more around, for what it said on the way out
    last = news.last_word or ({"event": "stopped"} if stopped else None)
    return {**last, "lacks_space": lacks_space} if last is not None else None


def _conclude(context: Context, claim: Claim, kind: Work, child: Child, last: dict[str, Any] | None) -> None:
    """Commit the outcome: T6, T7, or T10 to T13."""
    match last or {}:
        case {"event": "finished"} as result:
            stored = context.storage.adopt(claim.project_id, Path(result["result"]))
            try:
                _commit(context, lambda session: _succeed(context, session, claim, kind, result, stored))
            except Lost:
                # Cancelled in the last moment, reaped, or done already by a commit whose answer was lost.
                _commit(context, lambda session: jobs.stop(session, claim))
            except TooMany:
                _discard(context, [stored])
                raise
        case {"event": "failed", "code": jobs.STORAGE_FULL, "detail": detail}:
            _hold(context, claim, detail)
        case {"event": "failed", "retry": retry} as failure:
            error: dict[str, Any] = {key: failure[key] for key in ("code", "detail", "errors") if key in failure}
            _fail(context, claim, error, retry)
        case {"event": "stopped", "lacks_space": [*places]} if places:
            _hold(context, claim, f"full: {', '.join(places)}")
        case {"event": "stopped"}:
            _commit(context, lambda session: _stopped(session, claim, jobs.release))
        case _:
            detail = f"the process {kind.program} {child.ending()} without a result; its log says more"
            _fail(context, claim, {"code": "process_died", "detail": detail}, retry=True)


def _stopped(session: Session, claim: Claim, otherwise: Callable[[Session, Claim], None]) -> None:
    """End, pause or queue again: each finds what it was stopped for, or changes nothing."""
    for transition in (jobs.stop, jobs.time_out, jobs.suspend, otherwise):
        transition(session, claim)


def _hold(context: Context, claim: Claim, detail: str) -> None:
    def hold(session: Session, claim: Claim) -> None:
        jobs.hold(session, claim, detail, context.settings.retry_seconds)

    _commit(context, lambda session: _stopped(session, claim, hold))
    log.warning("job_lacks_space", reason=detail)


def _succeed(
    context: Context, session: Session, claim: Claim, kind: Work, result: dict[str, Any], stored: Stored
) -> None:
    jobs.succeed(session, claim)  # first: it locks the job, and an attempt that is lost must not meet other errors
    kind.complete(session, stored, result, quotas.max_stored_bytes(session, claim.project_id, context.settings))


def _discard(context: Context, files: Sequence[Stored]) -> None:
    for stored in files:
        storage.discard(context.database, context.storage, stored)


def _fail(context: Context, claim: Claim, error: dict[str, Any], retry: bool) -> None:
    retry_seconds = context.settings.retry_seconds if retry else None
    state = _commit(context, lambda session: jobs.fail(session, claim, error, retry_seconds))
    log.warning("job_attempt_failed", state=state, reason=error["detail"])


def _commit(context: Context, change: Callable[[Session], Answer]) -> Answer:
    """Commit one change, waiting for a database that is away: giving up would waste the attempt.

    The changes are compare-and-set on the attempt, so that one whose commit did go through is not done twice.
    """
    outage = Outage(log, "outcome_not_saved", "outcome_saved")
    while True:
        try:
            with context.database.writer.begin() as session:
                answer = change(session)
        except DATABASE_AWAY as error:
            outage.failed("outcome", error)
            time.sleep(RETRY_SECONDS)
        else:
            outage.works("outcome")
            return answer
