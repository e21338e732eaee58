"""Records an attempt in SQL: the events and the log of the child while it runs, and the outcome.

Every change is a compare-and-set on the attempt: it has no effect once the job has another owner.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from service.access import quotas
from service.jobs import history
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost, Progress, Requests
from service.shared import storage
from service.shared.errors import QuotaExceeded
from service.shared.outage_log import Outage
from service.shared.settings import Settings
from service.shared.storage import Storage, Stored
from worker import metrics
from worker.child_process import ChildProcess
from worker.jobs import ClaimedJob
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

LAST_EVENTS = ("finished", "failed", "stopped")
DATABASE_AWAY = (OperationalError, InterfaceError)
RETRY_SECONDS = 1.0


class PendingEvents:
    """The reports of a child that are not in SQL yet."""

    def __init__(self, claim: Claim, job: ClaimedJob, storage: Storage) -> None:
        self.last: dict[str, Any] | None = None
        """The event that tells how the child ended."""
        self._claim = claim
        self._job = job
        self._storage = storage
        self._progress = Progress("starting", 0.0, None)
        self._events: list[dict[str, Any]] = []
        self._log = ""

    def collect(self, child: ChildProcess) -> None:
        """Receive the child's reports since the last call. Stores the files of its checkpoints."""
        for event in child.events():
            if event["event"] in LAST_EVENTS:
                self.last = event
                continue
            if event["event"] == "checkpoint":
                # T5: the file is durable before any row names it
                stored = event["stored"] = self._storage.adopt(self._claim.project_id, Path(event["path"]))
                metrics.count_checkpoint(stored.size_bytes)
            if event["event"] == "progress":
                self._progress = Progress(event["phase"], event["fraction"], event["eta_seconds"])
                if "throughput" in event:
                    metrics.count_epoch(event["throughput"])
            self._events.append(event)
        self._log += child.log()

    def save(self, session: Session, settings: Settings) -> Requests:
        """One transaction: the heartbeat (T4), all pending events, checkpoints (T5) and the log.

        Returns what users have requested of the job. Raises Lost when the attempt is no longer the job's current one,
        and QuotaExceeded for a checkpoint that exceeds what the project may store; the caller rolls back.
        """
        job_id, attempt = self._claim.job_id, self._claim.attempt
        requests = jobs.heartbeat(session, self._claim, settings.lease_seconds, self._progress)
        has_files = bool(self.checkpoints())
        max_bytes = quotas.max_stored_bytes(session, self._claim.project_id, settings) if has_files else None
        for event in self._events:
            if event["event"] == "note":
                history.record_event(session, job_id, attempt, event["level"], event["type"], event["message"])
            else:
                self._job.record(session, event, max_bytes)
        if self._log:
            history.record_log(session, job_id, attempt, self._log)
        return requests

    def checkpoints(self) -> list[Stored]:
        """The stored checkpoints that have no row yet."""
        return [event["stored"] for event in self._events if event["event"] == "checkpoint"]

    def drop_older_checkpoints(self) -> list[Stored]:
        """Leave only the newest checkpoint pending. Returns the stored files that no other event needs."""
        *older, newest = [event for event in self._events if event["event"] == "checkpoint"]
        self._events = [event for event in self._events if event["event"] != "checkpoint" or event is newest]
        return [event["stored"] for event in older if event["stored"] != newest["stored"]]

    def clear(self) -> None:
        """Remove what `save` has saved. Call it after the commit."""
        self._events, self._log = [], ""


def succeed(worker: WorkerState, claim: Claim, job: ClaimedJob, event: dict[str, Any]) -> None:
    """T6: the result's file and rows, and the job's state, in one transaction.

    Raises QuotaExceeded, and keeps nothing, when the project would store too much.
    """
    stored = worker.storage.adopt(claim.project_id, Path(event["result"]))

    def change(session: Session) -> None:
        # First: it locks the job, so that a lost attempt raises Lost before any other error.
        jobs.succeed(session, claim)
        job.complete(session, stored, event, quotas.max_stored_bytes(session, claim.project_id, worker.settings))

    try:
        commit(worker, change)
    except Lost:
        # The job was cancelled meanwhile, or reaped, or an earlier try was committed and its response was lost.
        commit(worker, lambda session: jobs.stop(session, claim))
    except QuotaExceeded:
        discard(worker, [stored])
        raise


def fail(worker: WorkerState, claim: Claim, error: dict[str, Any], retry: bool) -> None:
    """T10: the attempt failed. error: `code`, `detail` and perhaps `errors`."""
    retry_seconds = worker.settings.retry_seconds if retry else None
    state = commit(worker, lambda session: jobs.fail(session, claim, error, retry_seconds))
    log.warning("job_attempt_failed", state=state, reason=error["detail"])


def stop(worker: WorkerState, claim: Claim) -> None:
    """T11, T13, T12 or T7: the child has stopped as requested: cancel, time out, pause, or else queue again."""
    commit(worker, lambda session: _stop(session, claim, jobs.release))


def wait_for_space(worker: WorkerState, claim: Claim, detail: str) -> None:
    """T10: the disk is full. The job is queued again, unless it was to be stopped anyway."""

    def postpone(session: Session, claim: Claim) -> None:
        jobs.postpone(session, claim, detail, worker.settings.retry_seconds)

    commit(worker, lambda session: _stop(session, claim, postpone))
    log.warning("job_postponed", reason=detail)


def discard(worker: WorkerState, files: Sequence[Stored]) -> None:
    """Remove stored files that no row names."""
    for stored in files:
        storage.discard(worker.database, worker.storage, stored)


def commit(worker: WorkerState, change: Callable[[Session], Result]) -> Result:
    """Commit a change. Retries while the database is unreachable, so that the attempt is not lost."""
    outage = Outage(log, "outcome_save_failed", "outcome_saved")
    while True:
        try:
            with worker.database.writer.begin() as session:
                result = change(session)
        except DATABASE_AWAY as error:
            outage.failed("outcome", error)
            time.sleep(RETRY_SECONDS)
        else:
            outage.works("outcome")
            return result


def _stop(session: Session, claim: Claim, otherwise: Callable[[Session, Claim], None]) -> None:
    """Each transition changes the job only if its own request was made, and only if it still runs."""
    for transition in (jobs.stop, jobs.time_out, jobs.suspend, otherwise):
        transition(session, claim)
