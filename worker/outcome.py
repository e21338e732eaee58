"""Commits the outcome of an attempt. Every change is a compare-and-set on the attempt; SQL ignores one that is late."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from service.access import quotas
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost
from service.shared import storage
from service.shared.errors import TooMany
from service.shared.outage_log import Outage
from service.shared.storage import Stored
from worker.jobs.claimed_job import ClaimedJob
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

DATABASE_AWAY = (OperationalError, InterfaceError)
RETRY_SECONDS = 1.0


def succeed(worker: WorkerState, claim: Claim, job: ClaimedJob, event: dict[str, Any]) -> None:
    """T6: the result's file and rows, and the job's state, in one transaction.

    Raises TooMany, and keeps nothing, when the project would store too much.
    """
    stored = worker.storage.adopt(claim.project_id, Path(event["result"]))

    def change(session: Session) -> None:
        # First: it locks the job, so that a lost attempt raises Lost before any other error.
        jobs.succeed(session, claim)
        job.complete(session, stored, event, quotas.max_stored_bytes(session, claim.project_id, worker.settings))

    try:
        commit(worker, change)
    except Lost:
        # The job was cancelled meanwhile, or reaped, or an earlier try did commit and its answer was lost.
        commit(worker, lambda session: jobs.stop(session, claim))
    except TooMany:
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

    def hold(session: Session, claim: Claim) -> None:
        jobs.hold(session, claim, detail, worker.settings.retry_seconds)

    commit(worker, lambda session: _stop(session, claim, hold))
    log.warning("job_lacks_space", reason=detail)


def discard(worker: WorkerState, files: Sequence[Stored]) -> None:
    """Remove stored files that no row names."""
    for stored in files:
        storage.discard(worker.database, worker.storage, stored)


def commit(worker: WorkerState, change: Callable[[Session], Result]) -> Result:
    """Commit a change. Waits for a database that is away: giving up would waste the attempt."""
    outage = Outage(log, "outcome_not_saved", "outcome_saved")
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
