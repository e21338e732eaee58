"""The kinds of job: one file per kind, registered here."""

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.datasets import operations as datasets
from service.datasets.tables import DatasetVersion
from service.jobs.operations import Claim
from service.runs import selection
from service.runs.tables import Run
from service.shared.storage import Stored
from worker.jobs.convert import ConvertJob
from worker.jobs.train import TrainJob
from worker.worker_state import WorkerState


class ClaimedJob(Protocol):
    """One claimed job. `max_bytes` is what its project may store, None without a quota."""

    program: str
    """The module that the child process runs."""
    devices: int
    """The number of devices that the job uses."""

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """The spec for the child process. Verifies the files that it names. Raises CorruptArtifact."""

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Save a `progress` or `checkpoint` event. Raises QuotaExceeded for a file that exceeds max_bytes."""

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """The error of the job when its program crashed (`ending` says how), if another attempt would crash too."""

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Add the rows of the outcome, in the transaction that ends the job. Raises QuotaExceeded as `record` does."""


KINDS: dict[str, Callable[[Session, Claim], ClaimedJob]] = {selection.KIND: TrainJob, datasets.KIND: ConvertJob}


def log_fields(session: Session, claim: Claim) -> dict[str, str]:
    """The ids of the run or dataset version that a job belongs to, for every line that the worker logs about it."""
    queries = {
        "run_id": select(Run.id).where(Run.job_id == claim.job_id),
        "dataset_version_id": select(DatasetVersion.id).where(DatasetVersion.job_id == claim.job_id),
    }
    ids = {name: session.scalar(query) for name, query in queries.items()}
    return {name: id for name, id in ids.items() if id is not None}
