"""Claims jobs, has a child process do each, and commits what came of it. SQL decides; the attempt fences."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from service.jobs import history
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost, Progress
from service.shared.storage import CorruptArtifact, Stored
from worker.child import Child
from worker.context import Context
from worker.kinds import KINDS, Work

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

DATABASE_AWAY = (OperationalError, InterfaceError)
RETRY_SECONDS = 1.0
LAST_WORDS = ("finished", "failed", "stopped")


def work(context: Context, queue: str) -> None:
    """Do what is due on a queue, one job after the other, until nothing is or the worker is told to stop."""
    while not context.draining.is_set():
        with context.database.writer.begin() as session:
            claim = jobs.claim(session, queue, context.owner, context.settings.lease_seconds)
        if claim is None:
            return
        log.info("job_claimed", job_id=claim.job_id, kind=claim.kind, attempt=claim.attempt)
        context.job_id = claim.job_id
        try:
            _attend(context, claim)
        except Lost:
            log.warning("job_lost", job_id=claim.job_id, attempt=claim.attempt)
        except Exception as error:  # a fault of ours is the attempt's, not the worker's
            log.exception("job_not_attended", job_id=claim.job_id)
            _fail(context, claim, {"code": "fault", "detail": f"{type(error).__name__}: {error}"}, retry=True)
        finally:
            context.job_id = None


def _attend(context: Context, claim: Claim) -> None:
    """Do one job. Raises Lost when another owner has it, or it was reaped."""
    scratch = context.settings.scratch
    for left_behind in scratch.glob(f"{claim.job_id}-*"):  # by an attempt that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    folder = scratch / f"{claim.job_id}-{claim.attempt}"
    folder.mkdir(parents=True)
    try:
        with context.database.reader() as session:
            kind = KINDS[claim.kind](session, claim)
        try:
            spec = {**kind.spec(context), "result": str(folder.absolute() / "result")}
        except CorruptArtifact as error:
            _fail(context, claim, {"code": "artifact_corrupt", "detail": str(error)}, retry=False)
            return
        with Child(kind.program, spec, context.settings.log_bytes) as child:
            last = _follow(context, claim, kind, child)
            _conclude(context, claim, kind, child, last)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(context: Context, claim: Claim, kind: Work, child: Child) -> dict[str, Any] | None:
    """Keep the lease and what the child reports until it ends, or stop it. Returns its last word, if it had one."""
    seconds = context.settings.heartbeat_seconds
    unsaved: list[dict[str, Any]] = []
    unsaved_log = ""
    progress = Progress("starting", 0.0, None)
    last: dict[str, Any] | None = None
    ended = stopped = False
    while not ended:
        ended = child.wait(0 if context.draining.is_set() else seconds)
        events = child.events()
        for event in events:
            if event["event"] == "progress":
                progress = Progress(event["phase"], event["fraction"], event["eta_seconds"])
        unsaved += [event for event in events if event["event"] not in LAST_WORDS]
        unsaved_log += child.log()
        last = last or _last_word(events)
        try:
            with context.database.writer.begin() as session:
                cancel = jobs.heartbeat(session, claim, context.settings.lease_seconds, progress)
                for event in unsaved:
                    _save(session, claim, kind, event)
                if unsaved_log:
                    history.record_log(session, claim.job_id, claim.attempt, unsaved_log)
        except DATABASE_AWAY as error:
            log.warning("heartbeat_not_saved", job_id=claim.job_id, error=str(error))
            if ended:
                ended = False  # the last word is not saved yet
                time.sleep(RETRY_SECONDS)
            continue
        unsaved, unsaved_log = [], ""
        if not ended and (cancel or context.draining.is_set()):
            child.stop(context.settings.trainer_stop_seconds)
            stopped = True  # once more around, for what it said on the way out
    return last or ({"event": "stopped"} if stopped else None)


def _last_word(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((event for event in events if event["event"] in LAST_WORDS), None)


def _save(session: Session, claim: Claim, kind: Work, event: dict[str, Any]) -> None:
    if event["event"] == "note":
        history.record_event(session, claim.job_id, claim.attempt, event["level"], event["type"], event["message"])
    else:
        kind.record(session, event)


def _conclude(context: Context, claim: Claim, kind: Work, child: Child, last: dict[str, Any] | None) -> None:
    """Commit the outcome: T6, T7, T10 or T11."""
    match last or {}:
        case {"event": "finished"} as result:
            stored = context.storage.put(claim.project_id, Path(result["result"]))
            try:
                _commit(context, lambda session: _succeed(session, claim, kind, result, stored))
            except Lost:
                # Cancelled in the last moment, reaped, or done already by a commit whose answer was lost.
                _commit(context, lambda session: jobs.stop(session, claim))
        case {"event": "failed", "retry": retry} as failure:
            error: dict[str, Any] = {key: failure[key] for key in ("code", "detail", "errors") if key in failure}
            _fail(context, claim, error, retry)
        case {"event": "stopped"}:
            _commit(context, lambda session: jobs.stop(session, claim))
            _commit(context, lambda session: jobs.release(session, claim))
        case _:
            detail = f"the process {kind.program} {child.ending()} without a result; its log says more"
            _fail(context, claim, {"code": "process_died", "detail": detail}, retry=True)


def _succeed(session: Session, claim: Claim, kind: Work, result: dict[str, Any], stored: Stored) -> None:
    kind.complete(session, stored, result)
    jobs.succeed(session, claim)


def _fail(context: Context, claim: Claim, error: dict[str, Any], retry: bool) -> None:
    retry_seconds = context.settings.retry_seconds if retry else None
    state = _commit(context, lambda session: jobs.fail(session, claim, error, retry_seconds))
    log.warning("job_attempt_failed", job_id=claim.job_id, state=state, **{"reason": error["detail"]})


def _commit(context: Context, change: Callable[[Session], Answer]) -> Answer:
    """Commit one change, waiting for a database that is away: giving up would waste the attempt.

    The changes are compare-and-set on the attempt, so that one whose commit did go through is not done twice.
    """
    while True:
        try:
            with context.database.writer.begin() as session:
                return change(session)
        except DATABASE_AWAY as error:
            log.warning("outcome_not_saved", error=str(error))
            time.sleep(RETRY_SECONDS)
