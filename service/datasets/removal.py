"""Removes the datasets and uploads of a project that is purged."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.datasets.tables import Dataset, DatasetVersion, Upload
from service.shared import storage


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
