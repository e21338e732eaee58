"""The kinds of job: one file per kind, registered here."""

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.datasets import operations as datasets
from service.datasets.tables import DatasetVersion
from service.jobs.operations import Claim
from service.runs import lookup
from service.runs.tables import Run
from worker.jobs.claimed_job import ClaimedJob
from worker.jobs.convert import ConvertJob
from worker.jobs.train import TrainJob

KINDS: dict[str, Callable[[Session, Claim], ClaimedJob]] = {lookup.KIND: TrainJob, datasets.KIND: ConvertJob}


def log_fields(session: Session, claim: Claim) -> dict[str, str]:
    """The ids of the run or dataset version that a job belongs to, for every line that the worker logs about it."""
    queries = {
        "run_id": select(Run.id).where(Run.job_id == claim.job_id),
        "dataset_version_id": select(DatasetVersion.id).where(DatasetVersion.job_id == claim.job_id),
    }
    found = {name: session.scalar(query) for name, query in queries.items()}
    return {name: id for name, id in found.items() if id is not None}
