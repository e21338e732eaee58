"""Deletes datasets: the files go, and the rows stay for the runs and models that were made of them."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.datasets import operations as datasets
from service.datasets.lineage import users
from service.datasets.tables import Dataset, DatasetVersion
from service.jobs import operations as jobs
from service.jobs.tables import FINAL_STATES, Job
from service.runs.tables import Run
from service.shared import storage
from service.shared.database import now
from service.shared.errors import Conflict, Fault

SHOWN_USERS = 20


def remove_version(session: Session, project_id: str, name: str, number: int, force: bool) -> None:
    """Delete one version.

    Raises NotFound, and Conflict that names the runs and models of it, unless forced: then runs that have not ended
    are cancelled, and models stay.
    """
    dataset, version, _ = datasets.find_version(session, project_id, name, number)
    _remove(session, dataset, [version], force)
    if not _versions(session, dataset):
        dataset.deleted_at = now()


def remove_dataset(session: Session, project_id: str, name: str, force: bool) -> None:
    """Delete all versions of a dataset, as `remove_version` does one."""
    dataset, _, _ = datasets.find_version(session, project_id, name, None)
    _remove(session, dataset, _versions(session, dataset), force)
    dataset.deleted_at = now()


def _versions(session: Session, dataset: Dataset) -> Sequence[DatasetVersion]:
    kept = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset.id, DatasetVersion.deleted_at.is_(None))
    return session.scalars(kept.with_for_update()).all()


def _remove(session: Session, dataset: Dataset, versions: Sequence[DatasetVersion], force: bool) -> None:
    used = users(session, dataset.project_id, dataset.name, versions)
    if used and not force:
        raise _in_use(dataset.name, [f"{user.kind} {user.name}" for user in used])
    for job_id in _unfinished(session, versions):
        jobs.cancel(session, job_id)
    released = [version.artifact_id for version in versions if version.artifact_id is not None]
    for version in versions:
        version.artifact_id = None
        version.deleted_at = now()
    session.flush()
    storage.release(session, released)


def _unfinished(session: Session, versions: Sequence[DatasetVersion]) -> Sequence[str]:
    """Jobs that make these versions, or train on them."""
    runs = select(Run.job_id).where(Run.dataset_version_id.in_([version.id for version in versions]))
    conversions = [version.job_id for version in versions]
    unfinished = select(Job.id).where(
        Job.id.in_(conversions) | Job.id.in_(runs), Job.state.not_in(FINAL_STATES), Job.cancel_requested.is_(False)
    )
    return session.scalars(unfinished).all()


def _in_use(name: str, used: Sequence[str]) -> Conflict:
    more = f" and {len(used) - SHOWN_USERS} more" if len(used) > SHOWN_USERS else ""
    conflict = Conflict(
        "dataset_in_use", f"dataset {name!r} is used by {', '.join(used[:SHOWN_USERS])}{more}; force deletes it anyway"
    )
    conflict.faults = tuple(Fault("", "used_by", user) for user in used[:SHOWN_USERS])
    return conflict
