"""Jobs of kind `train`: `worker.trainer` trains a run, and the result becomes a model version."""

from typing import Any

import structlog
from sqlalchemy.orm import Session

from service.jobs.operations import Claim
from service.runs import training
from service.runs.training import Origin
from service.shared.storage import CorruptArtifact, Stored
from worker.versions import git_revision, library_versions
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)


class TrainJob:
    """An attempt at one run."""

    program = "worker.trainer"

    def __init__(self, session: Session, claim: Claim) -> None:
        self._assigned = training.assignment(session, claim)
        self.devices = self._assigned.devices

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """The samples, the configuration, the seed, and where training starts: a checkpoint, a model or nothing."""
        return {
            "samples": str(worker.fetch(self._assigned.samples)),
            "config": self._assigned.config.model_dump(mode="json"),
            "training": self._assigned.training.model_dump(mode="json"),
            "seed": self._assigned.seed,
            "threads": worker.settings.trainer_threads,
            "checkpoint_seconds": worker.settings.checkpoint_seconds,
            "init": self._assigned.init and str(worker.fetch(self._assigned.init)),
            "resume": self._newest_intact_checkpoint(worker),
        }

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Add a checkpoint, or the metrics of an epoch."""
        run_id, attempt, step = self._assigned.run_id, self._assigned.attempt, event["step"]
        if event["event"] == "checkpoint":
            file, reason = event["stored"], event["reason"]
            training.record_checkpoint(session, run_id, attempt, file, max_bytes, step, reason, _origin())
        else:
            training.record_metrics(session, run_id, attempt, step, event["epoch"], event["metrics"])

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """Try again: the next attempt resumes from the last checkpoint."""
        return None

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Add the model version and the evaluation."""
        fields = result["metrics"], result["evaluation"], result["kernels"]
        training.complete(session, self._assigned, stored, max_bytes, *fields, _origin())

    def _newest_intact_checkpoint(self, worker: WorkerState) -> str | None:
        """The path of the newest checkpoint whose file is intact. None: training starts from the beginning."""
        for checkpoint in self._assigned.checkpoints:
            try:
                return str(worker.fetch(checkpoint))
            except CorruptArtifact as error:
                log.warning("checkpoint_rejected", run_id=self._assigned.run_id, error=str(error))
        return None


def _origin() -> Origin:
    return Origin(library_versions(), git_revision())
