"""Jobs of kind `train`: `worker.trainer` trains a run, and the result becomes a model version."""

from typing import Any

import structlog
from sqlalchemy.orm import Session

from service.jobs.operations import Claim
from service.registry import operations as registry
from service.runs import checkpoints, run_metrics, training_assignment
from service.runs import operations as runs
from service.shared.storage import CorruptArtifact, Stored
from worker.versions import git_revision, library_versions
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)


class TrainJob:
    """The training of one run."""

    program = "worker.trainer"

    def __init__(self, session: Session, claim: Claim) -> None:
        self._assignment = training_assignment.assignment(session, claim.job_id)
        self._attempt = claim.attempt
        self.devices = self._assignment.devices

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """The samples, the configuration, the seed, and where training starts: a checkpoint, a model or nothing."""
        return {
            "samples": str(worker.fetch(self._assignment.samples)),
            "config": self._assignment.config.model_dump(mode="json"),
            "training": self._assignment.training.model_dump(mode="json"),
            "seed": self._assignment.seed,
            "threads": worker.settings.trainer_threads,
            "checkpoint_seconds": worker.settings.checkpoint_seconds,
            "init": self._assignment.init and str(worker.fetch(self._assignment.init)),
            "resume": self._newest_intact_checkpoint(worker),
        }

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Add a checkpoint, or the metrics of an epoch."""
        run_id, step = self._assignment.run_id, event["step"]
        if event["event"] == "checkpoint":
            lineage = library_versions(), git_revision()
            checkpoints.keep(
                session, run_id, self._attempt, event["stored"], max_bytes, step, event["reason"], *lineage
            )
        else:
            run_metrics.record(session, run_id, self._attempt, step, event["epoch"], event["metrics"])

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """Try again: the next attempt resumes from the last checkpoint."""
        return None

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Add the model version and the evaluation. Numbers that are not finite become null: JSON has none."""
        evaluation = run_metrics.finite_throughout(result["evaluation"])
        runs.keep_evaluation(session, self._assignment.run_id, evaluation)
        last = {name: run_metrics.finite(value) for name, value in result["metrics"].items()}
        lineage = library_versions(), git_revision()
        registry.add_version(
            session, self._assignment, self._attempt, stored, max_bytes, last, *lineage, evaluation, result["kernels"]
        )

    def _newest_intact_checkpoint(self, worker: WorkerState) -> str | None:
        """The path of the newest checkpoint whose file is intact. None: training starts from the beginning."""
        for checkpoint in self._assignment.checkpoints:
            try:
                return str(worker.fetch(checkpoint))
            except CorruptArtifact as error:
                log.warning("checkpoint_unusable", run_id=self._assignment.run_id, error=str(error))
        return None
