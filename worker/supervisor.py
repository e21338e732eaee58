"""Runs the jobs of a queue, one at a time: claim, spec, child process, heartbeats with events, outcome.

SQL holds the owner of each job. Every write compares the attempt: a worker that lost its job changes nothing.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from structlog.contextvars import bound_contextvars

from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost, Requests
from service.runs import operations as runs
from service.shared import broker, telemetry
from service.shared.errors import QuotaExceeded
from service.shared.full_disk import is_disk_full
from service.shared.outage_log import Outage
from service.shared.periodic_thread import PeriodicThread
from service.shared.storage import CorruptArtifact
from worker import attempt, errors, metrics
from worker.attempt import DATABASE_AWAY, RETRY_SECONDS, PendingEvents
from worker.child_process import ChildProcess
from worker.jobs import KINDS, ClaimedJob, log_fields
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)


def register(app: Celery, worker: WorkerState) -> None:
    """Register the Celery task of every queue that has jobs.

    A message only wakes the worker up. Its name tells the queue. Its job id is a hint for the log: the worker claims
    whichever job is due.
    """

    def task(queue: str) -> Callable[[str], None]:
        def wake_up(job_id: str) -> None:
            work(worker, queue)

        return wake_up

    for queue, name in broker.TASKS.items():
        app.task(name=name)(task(queue))


def work(worker: WorkerState, queue: str) -> None:
    """Run the due jobs of a queue, until none is due or the worker has to stop.

    Returns at once if another thread is running jobs: that thread runs all due jobs.
    """
    if not worker.work_lock.acquire(blocking=False):
        return
    try:
        while not worker.draining.is_set() and _has_space(worker, queue):
            worker.launcher.prepare()  # under the lock, because another thread must not start a job at the same time
            claim, fields = _claim(worker, queue)
            if claim is None:
                return
            with bound_contextvars(**fields):
                _attempt(worker, claim)
            worker.idle_since = time.monotonic()
    finally:
        worker.job_id = None
        worker.work_lock.release()


def _has_space(worker: WorkerState, queue: str) -> bool:
    """Whether jobs can write their files. If not, the queued jobs say that they wait for space."""
    full = worker.storage.space.full()
    if full or worker.lacks_space is not False:
        with worker.database.writer.begin() as session:
            jobs.set_waiting_reason(session, queue, jobs.STORAGE_FULL if full else None)
        if full and not worker.lacks_space:
            log.warning("storage_filled", places=full)
        worker.lacks_space = bool(full)
    if full:
        worker.idle_since = time.monotonic()  # the watchdog must not see it as stalled
    return not full


def _claim(worker: WorkerState, queue: str) -> tuple[Claim | None, dict[str, str]]:
    """T3: claim the next job. Returns None if none is due, and the fields of all log lines about the job."""
    settings = worker.settings
    allowed = settings.lease_seconds, len(settings.devices), runs.running_limit(settings)
    with worker.database.writer.begin() as session:
        claim = jobs.claim(session, queue, worker.owner, *allowed)
        if claim is None:
            return None, {}
        fields = telemetry.of_job(claim.job_id, claim.request_id) | log_fields(session, claim)
    worker.job_id, worker.renewed_at = claim.job_id, time.monotonic()
    return claim, fields


def _attempt(worker: WorkerState, claim: Claim) -> None:
    """Run one claimed job, and always commit its outcome."""
    metrics.CLAIMED.labels(claim.kind).inc()
    log.info("job_claimed", kind=claim.kind, attempt=claim.attempt)
    started_at = time.monotonic()
    with _renewed_lease(worker, claim):
        ending = _outcome(worker, claim)
    metrics.ENDED.labels(claim.kind, ending).inc()
    try:
        with worker.database.reader() as session:
            state = jobs.state_after(session, claim)
    except DATABASE_AWAY:
        state = "unknown"
    seconds = round(time.monotonic() - started_at, 3)
    log.info("job_ended", kind=claim.kind, attempt=claim.attempt, state=state, duration_seconds=seconds)


@contextmanager
def _renewed_lease(worker: WorkerState, claim: Claim) -> Iterator[None]:
    """Renew the lease in a thread, because heartbeats pause while a large file is stored and while a child stops."""
    lease_seconds = worker.settings.lease_seconds

    def renew() -> None:
        with worker.database.writer.begin() as session:
            jobs.renew(session, claim, lease_seconds)
        worker.renewed_at = time.monotonic()

    thread = PeriodicThread("lease", lease_seconds / 4, renew)
    thread.start()
    try:
        yield
    finally:
        thread.close()


def _outcome(worker: WorkerState, claim: Claim) -> str:
    """Run the job and commit its outcome. Returns `finished`, `failed`, `stopped` or `lost`."""
    try:
        return _run_child(worker, claim)
    except Lost:
        log.warning("job_lost", attempt=claim.attempt)
        return "lost"
    except QuotaExceeded as error:  # another attempt would fail too, until something is deleted
        attempt.fail(worker, claim, {"code": error.code, "detail": error.detail}, retry=False)
        return "failed"
    except Exception as error:  # a bug in the worker fails the attempt; the worker goes on
        log.exception("job_attempt_crashed", reference=errors.reference(error))
        if is_disk_full(error):
            attempt.wait_for_space(worker, claim, "its files could not be stored")
            return "stopped"
        attempt.fail(worker, claim, errors.describe(error, "the log of the worker", *DATABASE_AWAY), retry=True)
        return "failed"


def _run_child(worker: WorkerState, claim: Claim) -> str:
    """Give the job's spec to a child process, follow it to its end, and commit the outcome."""
    with _scratch_folder(worker, claim) as folder:
        with worker.database.reader() as session:
            job = KINDS[claim.kind](session, claim)
        try:
            paths = {"result": str(folder / "result"), "checkpoints": str(folder)}
            spec = {**job.spec(worker), **paths, **telemetry.of_job(claim.job_id, claim.request_id)}
        except CorruptArtifact as error:
            attempt.fail(worker, claim, {"code": "artifact_corrupt", "detail": str(error)}, retry=False)
            return "failed"
        with worker.launcher.start(job.program, job.devices, spec) as child:
            last = _follow(worker, claim, job, child)
            _conclude(worker, claim, job, child, last)
            return str(last["event"]) if last else "failed"


@contextmanager
def _scratch_folder(worker: WorkerState, claim: Claim) -> Iterator[Path]:
    """An empty folder for the attempt's files. Removes what earlier attempts left behind when they were killed."""
    scratch = worker.settings.scratch
    for old in scratch.glob(f"{claim.job_id}-*"):
        shutil.rmtree(old, ignore_errors=True)
    folder = scratch.absolute() / f"{claim.job_id}-{claim.attempt}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(worker: WorkerState, claim: Claim, job: ClaimedJob, child: ChildProcess) -> dict[str, Any] | None:
    """Save the child's events with every heartbeat until it ends; stop it when that is requested.

    Returns the child's last event, None if it died without one. `lacks_space` in it lists the full disks. Raises Lost
    when the job has another owner, and QuotaExceeded for a checkpoint that exceeds what the project may store.
    """
    events = PendingEvents(claim, job, worker.storage)
    heartbeats = Outage(log, "heartbeat_failed", "heartbeat_recovered")
    has_ended = is_saved = was_stopped = False
    lacks_space: list[str] = []
    requests = Requests(cancel=False, pause=False, timed_out=False)
    while not (has_ended and is_saved):
        has_ended = child.wait(worker.settings.heartbeat_seconds)
        events.collect(child)
        try:
            with worker.database.writer.begin() as session:
                requests = events.save(session, worker.settings)
            worker.renewed_at = time.monotonic()
            heartbeats.works("heartbeat")
            events.clear()
            is_saved = True
        except DATABASE_AWAY as error:
            heartbeats.failed("heartbeat", error)
            metrics.UNSAVED.inc()
            is_saved = False
            time.sleep(RETRY_SECONDS)
        except QuotaExceeded:
            if len(events.checkpoints()) < 2:
                attempt.discard(worker, events.checkpoints())
                raise
            attempt.discard(worker, events.drop_older_checkpoints())  # the next round saves the newest, if it fits
            is_saved = False
        lacks_space = lacks_space or worker.storage.space.full()
        if not has_ended and (requests.any() or worker.draining.is_set() or lacks_space):
            child.stop(worker.settings.trainer_stop_seconds)
            was_stopped = True  # the next round saves what it reported while it stopped
    last = events.last or ({"event": "stopped"} if was_stopped else None)
    return {**last, "lacks_space": lacks_space} if last is not None else None


def _conclude(
    worker: WorkerState, claim: Claim, job: ClaimedJob, child: ChildProcess, last: dict[str, Any] | None
) -> None:
    """Commit the outcome that the child's last event tells."""
    match last or {}:
        case {"event": "finished"} as event:
            attempt.succeed(worker, claim, job, event)
        case {"event": "failed", "code": jobs.STORAGE_FULL, "detail": detail}:
            attempt.wait_for_space(worker, claim, detail)
        case {"event": "failed", "retry": retry} as event:
            error: dict[str, Any] = {key: event[key] for key in ("code", "detail", "errors") if key in event}
            attempt.fail(worker, claim, error, retry)
        case {"event": "stopped", "lacks_space": [*places]} if places:
            attempt.wait_for_space(worker, claim, f"full: {', '.join(places)}")
        case {"event": "stopped"}:
            attempt.stop(worker, claim)
        case _ if child.crashed() and (crash := job.crash_error(child.ending())) is not None:
            attempt.fail(worker, claim, crash, retry=False)
        case _:
            detail = f"the process of the job {child.ending()} and reported no result; the log of the job says more"
            attempt.fail(worker, claim, {"code": "process_died", "detail": detail}, retry=True)
