"""The kinds of job: which program does each, what it is told, and which rows its outcome becomes."""

import importlib.metadata
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access import quotas
from service.datasets import operations as datasets
from service.jobs.operations import Claim
from service.registry import operations as registry
from service.runs import assignments, checkpoints, metrics
from service.runs import operations as runs
from service.shared.samples import Schema
from service.shared.settings import Settings
from service.shared.storage import CorruptArtifact, Stored
from service.shared.tables import Artifact, DatasetVersion, Run
from worker.context import Context

log = structlog.get_logger(__name__)

LIBRARIES = ("sensorium", "torch", "numpy")
GIT_SECONDS = 5.0


class Work(Protocol):
    """One claimed job, as the supervisor sees it."""

    program: str
    """The module to run as a child process."""
    devices: int
    """How many devices it takes."""

    def spec(self, context: Context) -> dict[str, Any]:
        """What the child is told. Verifies what it will read; raises CorruptArtifact."""

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Keep what a progress event reports. Raises TooMany for a file with which the project stores too much."""

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Add the outcome's rows, in the transaction that ends the job. Raises TooMany as `record` does."""


class Training:
    """A run: `worker.trainer` makes a checkpoint, which becomes a model version."""

    program = "worker.trainer"

    def __init__(self, session: Session, claim: Claim) -> None:
        self._assignment = assignments.assignment(session, claim.job_id)
        self._attempt = claim.attempt
        self.devices = self._assignment.devices

    def spec(self, context: Context) -> dict[str, Any]:
        """Verified samples, configuration and seed."""
        return {
            "samples": str(_fetch(context, self._assignment.samples)),
            "config": self._assignment.config.model_dump(mode="json"),
            "training": self._assignment.training.model_dump(mode="json"),
            "seed": self._assignment.seed,
            "threads": context.settings.trainer_threads,
            "checkpoint_seconds": context.settings.checkpoint_seconds,
            "init": self._assignment.init and str(_fetch(context, self._assignment.init)),
            "resume": self._newest_whole_checkpoint(context),
        }

    def _newest_whole_checkpoint(self, context: Context) -> str | None:
        for checkpoint in self._assignment.checkpoints:
            try:
                return str(_fetch(context, checkpoint))
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
        )


class Conversion:
    """A dataset version: `worker.converter` makes its stored form."""

    program = "worker.converter"
    devices = 1

    def __init__(self, session: Session, claim: Claim) -> None:
        self._job_id, self._project_id = claim.job_id, claim.project_id
        self._asked = datasets.conversion(session, claim.job_id)

    def spec(self, context: Context) -> dict[str, Any]:
        """Where the data is, the verified file of an upload, what was declared of it, and how much it may become."""
        asked = self._asked
        uploaded = {"file": str(_fetch(context, asked.file)), "format": asked.format} if asked.file else None
        with context.database.reader() as session:
            room = quotas.room(session, self._project_id, context.settings)
        declaration = asked.declaration.model_dump(mode="json")
        return {"source": uploaded or asked.source, "declaration": declaration, "room": room}

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """A conversion reports nothing but how far it is."""

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Fill in the dataset version."""
        schema = Schema.model_validate(result["schema"])
        found = result["rows"], schema, result["statistics"], result["warnings"]
        datasets.complete(session, self._job_id, *found, stored, max_bytes)


KINDS: dict[str, Callable[[Session, Claim], Work]] = {runs.KIND: Training, datasets.KIND: Conversion}


def about(session: Session, claim: Claim) -> dict[str, str]:
    """What a job is about, for every line that its worker logs."""
    queries = {
        "run_id": select(Run.id).where(Run.job_id == claim.job_id),
        "dataset_version_id": select(DatasetVersion.id).where(DatasetVersion.job_id == claim.job_id),
    }
    found = {name: session.scalar(query) for name, query in queries.items()}
    return {name: id for name, id in found.items() if id is not None}


def library_versions() -> dict[str, str]:
    """What computes here, for the lineage of what it makes."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@cache
def git_revision() -> str | None:
    """The commit of the code that computes here: as the installation says it, or of the checkout that it runs from."""
    if told := Settings().git_revision:
        return told
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():  # git would look further up, and find what is not ours
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()


def _fetch(context: Context, artifact: Artifact) -> Path:
    return context.storage.fetch(artifact.project_id, artifact.sha256, artifact.size_bytes)
