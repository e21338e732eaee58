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
from worker import errors, metrics
from worker.child_process import ChildProcess
from worker.events import PendingEvents
from worker.jobs import KINDS, log_fields
from worker.jobs.claimed_job import ClaimedJob
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

DATABASE_AWAY = (OperationalError, InterfaceError)
RETRY_SECONDS = 1.0


def work(worker: WorkerState, queue: str) -> None:
    """Do what is due on a queue, one job after the other, until nothing is or the worker is told to stop.

    A worker does one job at a time: when it is at work already, this returns, and what is due is not missed.
    """
    if not worker.turn.acquire(blocking=False):
        return
    try:
        while not worker.draining.is_set() and _has_space(worker, queue):
            with worker.database.writer.begin() as session:
                lease, devices = worker.settings.lease_seconds, len(worker.settings.devices)
                claim = jobs.claim(session, queue, worker.owner, lease, devices, worker.settings.project_running_runs)
                about = log_fields(session, claim) if claim is not None else {}
            if claim is None:
                return
            began_at = time.monotonic()
            worker.job_id, worker.renewed_at = claim.job_id, began_at
            metrics.CLAIMED.labels(claim.kind).inc()
            with bound_contextvars(**telemetry.of_job(claim.job_id, claim.request_id), **about):
                log.info("job_claimed", kind=claim.kind, attempt=claim.attempt)
                _attend(worker, claim)
                _say_end(worker, claim, time.monotonic() - began_at)
            worker.idle_since = time.monotonic()
    finally:
        worker.job_id = None
        worker.turn.release()
        if not worker.draining.is_set():
            worker.launcher.prepare()


def _say_end(worker: WorkerState, claim: Claim, seconds: float) -> None:
    """One line for every attempt, whatever became of it: the job's state as it was left."""
    try:
        with worker.database.reader() as session:
            state = jobs.state_after(session, claim)
    except DATABASE_AWAY:
        state = "unknown"
    log.info("job_ended", kind=claim.kind, attempt=claim.attempt, state=state, duration_seconds=round(seconds, 3))


def _has_space(worker: WorkerState, queue: str) -> bool:
    """Whether jobs can write what they make. While they cannot, those that are queued say so."""
    full = worker.storage.space.full()
    if full or worker.lacks_space is not False:
        with worker.database.writer.begin() as session:
            jobs.say_why(session, queue, jobs.STORAGE_FULL if full else None)
        if full and not worker.lacks_space:
            log.warning("storage_full", places=full)
        worker.lacks_space = bool(full)
    if full:
        worker.idle_since = time.monotonic()  # it is not deaf
    return not full


def _attend(worker: WorkerState, claim: Claim) -> None:
    """Do one job, whatever happens to it."""
    lease_seconds = worker.settings.lease_seconds

    def renew() -> None:
        with worker.database.writer.begin() as session:
            jobs.renew(session, claim, lease_seconds)
        worker.renewed_at = time.monotonic()

    # Beside the heartbeats, which pause while a large file is verified or stored, and while a child takes to stop.
    lease = Ticker("lease", lease_seconds / 4, renew)
    lease.start()
    try:
        outcome = _do(worker, claim)
    except Lost:
        outcome = "lost"
        log.warning("job_lost", attempt=claim.attempt)
    except TooMany as error:  # to try again would be in vain until something is deleted
        outcome = "failed"
        _fail(worker, claim, {"code": error.code, "detail": error.detail}, retry=False)
    except Exception as error:  # a fault of ours is the attempt's, not the worker's
        outcome = "stopped" if tells_of_full(error) else "failed"
        log.exception("job_not_attended")
        if outcome == "stopped":
            _hold(worker, claim, "its files could not be stored")
        else:
            _fail(worker, claim, errors.describe(error, *DATABASE_AWAY), retry=True)
    finally:
        lease.close()
    metrics.ENDED.labels(claim.kind, outcome).inc()


def _do(worker: WorkerState, claim: Claim) -> str:
    """Returns the child's last word."""
    scratch = worker.settings.scratch
    for left_behind in scratch.glob(f"{claim.job_id}-*"):  # by an attempt that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    folder = scratch / f"{claim.job_id}-{claim.attempt}"
    folder.mkdir(parents=True)
    try:
        with worker.database.reader() as session:
            job = KINDS[claim.kind](session, claim)
        try:
            paths = {"result": str(folder.absolute() / "result"), "checkpoints": str(folder)}
            spec = {**job.spec(worker), **paths, **telemetry.of_job(claim.job_id, claim.request_id)}
        except CorruptArtifact as error:
            _fail(worker, claim, {"code": "artifact_corrupt", "detail": str(error)}, retry=False)
            return "failed"
        with worker.launcher.start(job.program, job.devices, spec) as child:
            last = _follow(worker, claim, job, child)
            _conclude(worker, claim, job, child, last)
            return str(last["event"]) if last else "failed"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(worker: WorkerState, claim: Claim, job: ClaimedJob, child: ChildProcess) -> dict[str, Any] | None:
    """Keep the lease and what the child reports until it ends, or stop it. Returns its last word, if it had one.

    Raises Lost when another owner has the job, or it was reaped, and TooMany for a checkpoint that has no room.
    """
    settings = worker.settings
    news = PendingEvents(claim, job, worker.storage)
    heartbeats = Outage(log, "heartbeats_not_saved", "heartbeats_saved_again")
    ended = saved = stopped = False
    lacks_space: list[str] = []
    requests = Requests(cancel=False, pause=False, timed_out=False)
    while not (ended and saved):
        ended = child.wait(settings.heartbeat_seconds)
        news.hear(child)
        try:
            with worker.database.writer.begin() as session:
                requests = news.save(session, settings)
            worker.renewed_at = time.monotonic()
            heartbeats.works("heartbeat")
            news.forget()
            saved = True
        except DATABASE_AWAY as error:
            heartbeats.failed("heartbeat", error)
            metrics.UNSAVED.inc()
            saved = False
            time.sleep(RETRY_SECONDS)
        except TooMany:
            _discard(worker, news.files())
            raise
        lacks_space = lacks_space or worker.storage.space.full()
        if not ended and (requests.any() or worker.draining.is_set() or lacks_space):
            child.stop(settings.trainer_stop_seconds)
            stopped = True  # once more around, for what it said on the way out
    last = news.last_word or ({"event": "stopped"} if stopped else None)
    return {**last, "lacks_space": lacks_space} if last is not None else None


def _conclude(
    worker: WorkerState, claim: Claim, job: ClaimedJob, child: ChildProcess, last: dict[str, Any] | None
) -> None:
    """Commit the outcome: T6, T7, or T10 to T13."""
    match last or {}:
        case {"event": "finished"} as result:
            stored = worker.storage.adopt(claim.project_id, Path(result["result"]))
            try:
                _commit(worker, lambda session: _succeed(worker, session, claim, job, result, stored))
            except Lost:
                # Cancelled in the last moment, reaped, or done already by a commit whose answer was lost.
                _commit(worker, lambda session: jobs.stop(session, claim))
            except TooMany:
                _discard(worker, [stored])
                raise
        case {"event": "failed", "code": jobs.STORAGE_FULL, "detail": detail}:
            _hold(worker, claim, detail)
        case {"event": "failed", "retry": retry} as failure:
            error: dict[str, Any] = {key: failure[key] for key in ("code", "detail", "errors") if key in failure}
            _fail(worker, claim, error, retry)
        case {"event": "stopped", "lacks_space": [*places]} if places:
            _hold(worker, claim, f"full: {', '.join(places)}")
        case {"event": "stopped"}:
            _commit(worker, lambda session: _stopped(session, claim, jobs.release))
        case _ if child.crashed() and (crash := job.crash_error(child.ending())) is not None:
            _fail(worker, claim, crash, retry=False)
        case _:
            detail = f"the process {job.program} {child.ending()} without a result; its log says more"
            _fail(worker, claim, {"code": "process_died", "detail": detail}, retry=True)


def _stopped(session: Session, claim: Claim, otherwise: Callable[[Session, Claim], None]) -> None:
    """End, pause or queue again: each finds what it was stopped for, or changes nothing."""
    for transition in (jobs.stop, jobs.time_out, jobs.suspend, otherwise):
        transition(session, claim)


def _hold(worker: WorkerState, claim: Claim, detail: str) -> None:
    def hold(session: Session, claim: Claim) -> None:
        jobs.hold(session, claim, detail, worker.settings.retry_seconds)

    _commit(worker, lambda session: _stopped(session, claim, hold))
    log.warning("job_lacks_space", reason=detail)


def _succeed(
    worker: WorkerState, session: Session, claim: Claim, job: ClaimedJob, result: dict[str, Any], stored: Stored
) -> None:
    jobs.succeed(session, claim)  # first: it locks the job, and an attempt that is lost must not meet other errors
    job.complete(session, stored, result, quotas.max_stored_bytes(session, claim.project_id, worker.settings))


def _discard(worker: WorkerState, files: Sequence[Stored]) -> None:
    for stored in files:
        storage.discard(worker.database, worker.storage, stored)


def _fail(worker: WorkerState, claim: Claim, error: dict[str, Any], retry: bool) -> None:
    retry_seconds = worker.settings.retry_seconds if retry else None
    state = _commit(worker, lambda session: jobs.fail(session, claim, error, retry_seconds))
    log.warning("job_attempt_failed", state=state, reason=error["detail"])


def _commit(worker: WorkerState, change: Callable[[Session], Answer]) -> Answer:
    """Commit one change, waiting for a database that is away: giving up would waste the attempt.

    The changes are compare-and-set on the attempt, so that one whose commit did go through is not done twice.
    """
    outage = Outage(log, "outcome_not_saved", "outcome_saved")
    while True:
        try:
            with worker.database.writer.begin() as session:
                answer = change(session)
        except DATABASE_AWAY as error:
            outage.failed("outcome", error)
            time.sleep(RETRY_SECONDS)
        else:
            outage.works("outcome")
            return answer
