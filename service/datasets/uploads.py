"""The rows of uploads."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.datasets import schemas
from service.datasets.tables import Dataset, DatasetVersion, Upload
from service.jobs.tables import FINAL_STATES, Job
from service.shared import events, storage
from service.shared.errors import Conflict, NotFound
from service.shared.events import Resource
from service.shared.npz import ArrayHeader
from service.shared.period import Period
from service.shared.storage import Stored
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id


def create(
    session: Session,
    stored: Stored,
    max_bytes: int | None,
    format: str,
    arrays: Sequence[ArrayHeader] = (),
) -> schemas.Upload:
    """Add the row of a stored file. arrays: those that the headers of an .npz file announce.

    max_bytes: what the project may store. Raises QuotaExceeded.
    """
    artifact = storage.record(session, stored, max_bytes)
    upload = Upload(
        id=new_id("upl"),
        project_id=stored.project_id,
        artifact_id=artifact.id,
        format=format,
        arrays=[{"name": a.name, "shape": list(a.shape), "dtype": a.dtype.str} for a in arrays],
    )
    session.add(upload)
    session.flush()
    events.record(session, stored.project_id, "upload.created", Resource("upload", upload.id))
    return _describe(upload, artifact)


def get(session: Session, project_id: str, upload_id: str) -> schemas.Upload:
    """One upload. Raises NotFound."""
    upload = find(session, project_id, upload_id)
    return _describe(upload, session.get_one(Artifact, upload.artifact_id))


def find(session: Session, project_id: str, upload_id: str, lock: bool = False) -> Upload:
    """The row of an upload. lock: prevent its deletion until the transaction ends. Raises NotFound."""
    query = select(Upload).where(Upload.id == upload_id, Upload.project_id == project_id)
    upload = session.scalar(query.with_for_update() if lock else query)
    if upload is None:
        raise NotFound("upload", upload_id)
    return upload


def list_uploads(
    session: Session, project_id: str, period: Period, after: str | None, size: int
) -> Sequence[tuple[str, schemas.Upload]]:
    """The uploads of a project, newest first, each with its id for paging."""
    query = (
        select(Upload, Artifact)
        .join(Artifact, Artifact.id == Upload.artifact_id)
        .where(Upload.project_id == project_id, *period.of_ids(Upload.created_at, Upload.id, "upl"))
        .order_by(Upload.id.desc())
        .limit(size)
    )
    if after is not None:
        query = query.where(Upload.id < after)
    return [(upload.id, _describe(upload, artifact)) for upload, artifact in session.execute(query)]


def remove(session: Session, project_id: str, upload_id: str) -> None:
    """Delete an upload; its datasets stay. Raises NotFound, and Conflict while a dataset is being created from it."""
    upload = find(session, project_id, upload_id, lock=True)
    waiting = session.execute(
        select(Dataset.name, DatasetVersion.version)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .join(Job, Job.id == DatasetVersion.job_id)
        .where(
            Dataset.project_id == project_id,
            Job.state.not_in(FINAL_STATES),
            DatasetVersion.source["upload"].as_string() == upload_id,
        )
    ).first()
    if waiting is not None:
        detail = f"dataset {waiting[0]!r} version {waiting[1]} is being created from it"
        raise Conflict("upload_in_use", f"{detail}; delete the upload when the version is ready or rejected")
    session.execute(delete(Upload).where(Upload.id == upload_id))
    events.record(session, project_id, "upload.deleted", Resource("upload", upload_id))
    storage.release(session, [upload.artifact_id])


def headers(upload: Upload) -> list[ArrayHeader]:
    """The arrays that the headers of the file announced."""
    return [ArrayHeader(a["name"], tuple(a["shape"]), np.dtype(a["dtype"])) for a in upload.arrays]


def _describe(upload: Upload, artifact: Artifact) -> schemas.Upload:
    return schemas.Upload(
        id=upload.id,
        format=upload.format,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        arrays=[schemas.UploadedArray.model_validate(array) for array in upload.arrays],
        created_at=upload.created_at,
    )
