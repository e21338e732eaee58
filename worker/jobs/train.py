"""Jobs of kind `train`: a run is trained by `worker.trainer` and becomes a model version."""

from typing import Any

import structlog
from sqlalchemy.orm import Session

from service.jobs.operations import Claim
from service.registry import operations as registry
from service.runs import assignments, checkpoints, metrics
from service.runs import operations as runs
from service.shared.storage import CorruptArtifact, Stored
from worker.versions import git_revision, library_versions
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)


class TrainJob:
    """A run: `worker.trainer` makes a checkpoint, which becomes a model version."""

    program = "worker.trainer"

    def __init__(self, session: Session, claim: Claim) -> None:
        self._assignment = assignments.assignment(session, claim.job_id)
        self._attempt = claim.attempt
        self.devices = self._assignment.devices

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """Verified samples, configuration and seed."""
        return {
            "samples": str(worker.fetch(self._assignment.samples)),
            "config": self._assignment.config.model_dump(mode="json"),
            "training": self._assignment.training.model_dump(mode="json"),
            "seed": self._assignment.seed,
            "threads": worker.settings.trainer_threads,
            "checkpoint_seconds": worker.settings.checkpoint_seconds,
            "init": self._assignment.init and str(worker.fetch(self._assignment.init)),
            "resume": self._newest_whole_checkpoint(worker),
        }

    def _newest_whole_checkpoint(self, worker: WorkerState) -> str | None:
        for checkpoint in self._assignment.checkpoints:
            try:
                return str(worker.fetch(checkpoint))
            except CorruptArtifact as error:  # the one before is whole, or the training begins anew
                log.warning("checkpoint_unusable", run_id=self._assignment.run_id, error=str(error))
        return None

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Keep the metrics of an epoch, or a checkpoint."""
        if event["event"] == "checkpoint":
            run_id, step, reason = self._assignment.run_id, event["step"], event["reason"]
            made_with = library_versions(), git_revision()
            checkpoints.keep(session, run_id, self._attempt, event["stored"], max_bytes, step, reason, *made_with)
            return
        metrics.record(session, self._assignment.run_id, self._attempt, event["step"], event["epoch"], event["metrics"])

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """Try again: the next attempt resumes from the last checkpoint."""
        return None

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Add the model version and its evaluation; a figure that is not finite is null."""
        evaluation = metrics.finite_throughout(result["evaluation"])
        runs.keep_evaluation(session, self._assignment.run_id, evaluation)
        last = {name: metrics.finite(value) for name, value in result["metrics"].items()}
        registry.add_version(
            session,
            self._assignment,
            self._attempt,
            stored,
            max_bytes,
            last,
            library_versions(),
            git_revision(),
            evaluation,
            result["kernels"],
        )
