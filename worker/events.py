"""What a child has reported and SQL does not have yet."""

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

LAST_WORDS = ("finished", "failed", "stopped")


class PendingEvents:
    """Gathers a child's events and log until a heartbeat has taken them along."""

    def __init__(self, claim: Claim, job: ClaimedJob, storage: Storage) -> None:
        self.last_word: dict[str, Any] | None = None
        self._claim = claim
        self._job = job
        self._storage = storage
        self._progress = Progress("starting", 0.0, None)
        self._events: list[dict[str, Any]] = []
        self._log = ""

    def hear(self, child: ChildProcess) -> None:
        """Take in what the child has said since it was last listened to."""
        for event in child.events():
            if event["event"] in LAST_WORDS:
                self.last_word = event
                continue
            if event["event"] == "checkpoint":
                # durable before any row names it (T5)
                stored = event["stored"] = self._storage.adopt(self._claim.project_id, Path(event["path"]))
                metrics.kept_checkpoint(stored.size_bytes)
            if event["event"] == "progress":
                self._progress = Progress(event["phase"], event["fraction"], event["eta_seconds"])
                if "throughput" in event:
                    metrics.trained(event["throughput"])
            self._events.append(event)
        self._log += child.log()

    def save(self, session: Session, settings: Settings) -> Requests:
        """T4 and all the news, checkpoints too (T5), in one transaction. Returns what is asked of the job's owner.

        Raises Lost, and nothing is written, when the attempt is not the job's current one any more, and TooMany for a
        checkpoint with which the project would store too much.
        """
        job_id, attempt = self._claim.job_id, self._claim.attempt
        requests = jobs.heartbeat(session, self._claim, settings.lease_seconds, self._progress)
        max_bytes = quotas.max_stored_bytes(session, self._claim.project_id, settings) if self.files() else None
        for event in self._events:
            if event["event"] == "note":
                history.record_event(session, job_id, attempt, event["level"], event["type"], event["message"])
            else:
                self._job.record(session, event, max_bytes)
        if self._log:
            history.record_log(session, job_id, attempt, self._log)
        return requests

    def files(self) -> list[Stored]:
        """The checkpoints that have no row yet."""
        return [event["stored"] for event in self._events if event["event"] == "checkpoint"]

    def forget(self) -> None:
        """The transaction of `save` was committed."""
        self._events, self._log = [], ""
