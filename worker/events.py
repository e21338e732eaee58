"""The events and the log of a child process, from when they arrive until SQL has them."""

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from service.access import quotas
from service.jobs import history
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Progress, Requests
from service.shared.settings import Settings
from service.shared.storage import Storage, Stored
from worker import metrics
from worker.child_process import ChildProcess
from worker.jobs.claimed_job import ClaimedJob

LAST_EVENTS = ("finished", "failed", "stopped")


class PendingEvents:
    """What a child has reported and SQL does not have yet."""

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
        """Take what the child has reported since the last call. Stores the files of its checkpoints."""
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
        and TooMany for a checkpoint that exceeds what the project may store; the caller rolls back.
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

    def clear(self) -> None:
        """Forget what `save` has saved, once its transaction is committed."""
        self._events, self._log = [], ""
