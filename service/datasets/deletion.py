"""Deletes datasets and versions: marks them, so that it can be undone, or purges their files.

Rows stay, because runs refer to versions, and numbers are not reused. `service.lineage` asks first what uses the data.
"""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.datasets.tables import Dataset, DatasetVersion, Upload
from service.shared import events, storage
from service.shared.database import now
from service.shared.errors import NotFound
from service.shared.events import Resource

MAX_PURGED_AT_ONCE = 100


def lock(session: Session, project_id: str, name: str) -> Dataset:
    """A dataset that is not purged. Until the transaction ends, nothing is created from it. Raises NotFound."""
    query = select(Dataset).where(Dataset.project_id == project_id, Dataset.name == name, Dataset.purged_at.is_(None))
    dataset = session.scalar(query.with_for_update())
    if dataset is None:
        raise NotFound("dataset", name)
    return dataset


def versions_of(session: Session, dataset: Dataset) -> Sequence[DatasetVersion]:
    """The versions of a dataset that are not purged."""
    query = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset.id, DatasetVersion.purged_at.is_(None))
    return session.scalars(query.order_by(DatasetVersion.version)).all()


def version_of(session: Session, dataset: Dataset, number: int) -> DatasetVersion:
    """A version of a dataset that is not purged. Raises NotFound."""
    query = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset.id, DatasetVersion.version == number)
    version = session.scalar(query.where(DatasetVersion.purged_at.is_(None)))
    if version is None:
        raise NotFound("dataset version", f"{dataset.name}/{number}")
    return version


def mark(session: Session, dataset: Dataset, version: DatasetVersion | None = None) -> None:
    """Mark a version, or a dataset with all its versions, as deleted. The files stay."""
    marked = dataset if version is None else version
    if marked.deleted_at is None:
        marked.deleted_at = now()
        _tell(session, dataset, version, "deleted")
        session.flush()


def restore_version(session: Session, project_id: str, name: str, number: int) -> None:
    """Undo the deletion of a version, and of its dataset if that was deleted. Raises NotFound."""
    dataset = lock(session, project_id, name)
    _restore(session, dataset, version_of(session, dataset, number))
    _restore(session, dataset)


def restore_dataset(session: Session, project_id: str, name: str) -> None:
    """Undo the deletion of a dataset. Versions that were deleted individually stay deleted. Raises NotFound."""
    _restore(session, lock(session, project_id, name))


def purge(session: Session, dataset: Dataset, versions: Sequence[DatasetVersion]) -> None:
    """Delete the files of versions. The caller has cancelled what needs them."""
    files = [version.artifact_id for version in versions if version.artifact_id is not None]
    for version in versions:
        version.artifact_id = None
        version.purged_at = now()
        if version.deleted_at is None:
            version.deleted_at = now()
        _tell(session, dataset, version, "purged")
    session.flush()
    storage.release(session, files)


def purge_dataset(session: Session, dataset: Dataset) -> None:
    """Delete the files of all versions, and forget the dataset. A new version of it gets the next number."""
    purge(session, dataset, versions_of(session, dataset))
    _forget(session, dataset)


def purge_expired(session: Session, seconds: float) -> None:
    """Purge what was deleted longer ago than this: at most MAX_PURGED_AT_ONCE versions of each kind, and datasets."""
    expired = now(-seconds)
    # Rows that are locked are about to be purged or restored by another process.
    kept = (
        select(Dataset, DatasetVersion)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .where(DatasetVersion.purged_at.is_(None))
        .limit(MAX_PURGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    own, whole = DatasetVersion.deleted_at < expired, (Dataset.deleted_at < expired) & Dataset.purged_at.is_(None)
    for due in (own, whole):
        for dataset, version in session.execute(kept.where(due)).all():
            purge(session, dataset, [version])
    datasets = select(Dataset).where(whole).limit(MAX_PURGED_AT_ONCE).with_for_update(skip_locked=True)
    for dataset in session.scalars(datasets).all():
        if not versions_of(session, dataset):
            _forget(session, dataset)


def remove_some(session: Session, project_id: str, at_most: int) -> bool:
    """Delete some versions, datasets or uploads with their files. Returns False if the project had none.

    The project is purged: no run refers to the versions any more. Their jobs are deleted afterwards.
    """
    of_project = select(DatasetVersion).join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    of_project = of_project.where(Dataset.project_id == project_id).order_by(DatasetVersion.id).limit(at_most)
    if versions := session.scalars(of_project).all():
        files = [version.artifact_id for version in versions if version.artifact_id is not None]
        session.execute(delete(DatasetVersion).where(DatasetVersion.id.in_([version.id for version in versions])))
        storage.release(session, files)
        return True
    if uploads := session.scalars(select(Upload).where(Upload.project_id == project_id).limit(at_most)).all():
        files = [upload.artifact_id for upload in uploads]
        session.execute(delete(Upload).where(Upload.id.in_([upload.id for upload in uploads])))
        storage.release(session, files)
        return True
    datasets = session.scalars(select(Dataset.id).where(Dataset.project_id == project_id).limit(at_most)).all()
    session.execute(delete(Dataset).where(Dataset.id.in_(datasets)))
    return bool(datasets)


def _forget(session: Session, dataset: Dataset) -> None:
    dataset.purged_at = now()
    if dataset.deleted_at is None:
        dataset.deleted_at = now()
    _tell(session, dataset, None, "purged")
    session.flush()


def _restore(session: Session, dataset: Dataset, version: DatasetVersion | None = None) -> None:
    marked = dataset if version is None else version
    if marked.deleted_at is not None:
        marked.deleted_at = None
        _tell(session, dataset, version, "restored")
        session.flush()


def _tell(session: Session, dataset: Dataset, version: DatasetVersion | None, verb: str) -> None:
    if version is None:
        resource = Resource("dataset", dataset.name)
    else:
        resource = Resource("dataset_version", f"{dataset.name}/{version.version}")
    events.record(session, dataset.project_id, f"{resource.type}.{verb}", resource)
