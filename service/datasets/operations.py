"""Uploads and dataset versions in SQL."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.datasets import schemas
from service.datasets.layout import REJECTED, Declaration, plan
from service.jobs import operations as jobs
from service.shared import storage
from service.shared.database import find_or_add
from service.shared.errors import BadInput, NotFound
from service.shared.npz import ArrayHeader
from service.shared.samples import Schema
from service.shared.storage import Stored
from service.shared.tables import Artifact, Dataset, DatasetVersion, Job, Upload, new_id

QUEUE: Literal["data"] = "data"
KIND = "convert"

# A dataset version has no state of its own: it follows from its job's.
_STATES: dict[str, schemas.DatasetState] = {
    "queued": "validating",
    "running": "validating",
    "paused": "validating",
    "succeeded": "ready",
    "failed": "failed",
    "cancelled": "cancelled",
}


def create_upload(session: Session, stored: Stored, arrays: Sequence[ArrayHeader]) -> schemas.Upload:
    """Record a file that is in the store and whose headers were checked."""
    artifact = storage.record(session, stored)
    upload = Upload(
        id=new_id("upl"),
        project_id=stored.project_id,
        artifact_id=artifact.id,
        format="npz",
        arrays=[{"name": a.name, "shape": list(a.shape), "dtype": a.dtype.str} for a in arrays],
    )
    session.add(upload)
    session.flush()
    return _describe_upload(upload, artifact)


def get_upload(session: Session, project_id: str, upload_id: str) -> schemas.Upload:
    """One upload. Raises NotFound."""
    upload = _upload(session, project_id, upload_id)
    return _describe_upload(upload, _artifact(session, upload.artifact_id))


def create_version(
    session: Session, project_id: str, request: schemas.DatasetRequest
) -> tuple[schemas.DatasetVersion, str]:
    """Check that the upload can become a dataset, and queue its conversion. Returns the version and the job's id.

    Raises NotFound for an unknown upload, BadInput with everything in it that does not fit.
    """
    upload = _upload(session, project_id, request.source.upload)
    _check(upload, request.declaration)
    named = select(Dataset).where(Dataset.project_id == project_id, Dataset.name == request.name)
    new = Dataset(id=new_id("dat"), project_id=project_id, name=request.name)
    # locked, so that two versions asked for at once are numbered one after the other
    dataset = find_or_add(session, named.with_for_update(), new)
    newest = session.scalar(select(func.max(DatasetVersion.version)).where(DatasetVersion.dataset_id == dataset.id))
    job = jobs.create(session, project_id, KIND, QUEUE)
    version = DatasetVersion(
        id=new_id("dsv"),
        dataset_id=dataset.id,
        job_id=job.id,
        version=(newest or 0) + 1,
        source={"upload": upload.id},
        declaration=request.declaration.model_dump(),
    )
    session.add(version)
    session.flush()
    return _describe(dataset, version, job, None), job.id


def get_version(session: Session, project_id: str, name: str, number: int) -> schemas.DatasetVersion:
    """One version of a dataset. Raises NotFound."""
    dataset, version, job = find_version(session, project_id, name, number)
    artifact = _artifact(session, version.artifact_id) if version.artifact_id else None
    return _describe(dataset, version, job, artifact)


def find_version(
    session: Session, project_id: str, name: str, number: int | None
) -> tuple[Dataset, DatasetVersion, Job]:
    """The rows of a version, the newest one without a number. Raises NotFound."""
    query = (
        select(Dataset, DatasetVersion, Job)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .join(Job, Job.id == DatasetVersion.job_id)
        .where(Dataset.project_id == project_id, Dataset.name == name)
        .order_by(DatasetVersion.version.desc())
        .limit(1)
    )
    if number is not None:
        query = query.where(DatasetVersion.version == number)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            "dataset" if number is None else "dataset version", name if number is None else f"{name}/{number}"
        )
    return row[0], row[1], row[2]


def list_datasets(
    session: Session, project_id: str, after: str | None, size: int
) -> Sequence[tuple[str, schemas.Dataset]]:
    """Datasets newest first, each with its id for paging."""
    newest = select(func.max(DatasetVersion.version)).where(DatasetVersion.dataset_id == Dataset.id).scalar_subquery()
    query = select(Dataset, newest).where(Dataset.project_id == project_id).order_by(Dataset.id.desc()).limit(size)
    if after is not None:
        query = query.where(Dataset.id < after)
    return [
        (dataset.id, schemas.Dataset(name=dataset.name, latest_version=version, created_at=dataset.created_at))
        for dataset, version in session.execute(query)
    ]


def conversion(session: Session, job_id: str) -> tuple[Artifact, list[ArrayHeader], Declaration]:
    """What a convert job has to do: the uploaded file, its arrays, and what the caller said of them."""
    version = session.scalars(select(DatasetVersion).where(DatasetVersion.job_id == job_id)).one()
    upload = session.get_one(Upload, version.source["upload"])
    declaration = Declaration.model_validate(version.declaration)
    return _artifact(session, upload.artifact_id), _headers(upload), declaration


def complete(
    session: Session, job_id: str, rows: int, schema: Schema, statistics: dict[str, Any], stored: Stored
) -> None:
    """Record what a conversion made; the caller ends the job in the same transaction."""
    version = session.scalars(select(DatasetVersion).where(DatasetVersion.job_id == job_id)).one()
    version.artifact_id = storage.record(session, stored).id
    version.rows = rows
    version.schema = schema.model_dump(mode="json")
    version.statistics = statistics


def state_of(job: Job) -> schemas.DatasetState:
    """A dataset version's state, which its job's state implies."""
    if job.state == "failed" and job.error and job.error["code"] == REJECTED:
        return "rejected"
    return _STATES[job.state]


def _check(upload: Upload, declaration: Declaration) -> None:
    """Lay the upload out once before anything is queued; what is wrong with it is wrong at `/source/upload`."""
    try:
        plan(_headers(upload), declaration)
    except BadInput as error:
        ours = ("/schema",)
        faults = [f if f.pointer.startswith(ours) else replace(f, pointer="/source/upload") for f in error.faults]
        raise BadInput(faults) from error


def _upload(session: Session, project_id: str, upload_id: str) -> Upload:
    upload = session.get(Upload, upload_id)
    if upload is None or upload.project_id != project_id:
        raise NotFound("upload", upload_id)
    return upload


def _artifact(session: Session, artifact_id: str) -> Artifact:
    return session.get_one(Artifact, artifact_id)


def _headers(upload: Upload) -> list[ArrayHeader]:
    return [ArrayHeader(a["name"], tuple(a["shape"]), np.dtype(a["dtype"])) for a in upload.arrays]


def _describe_upload(upload: Upload, artifact: Artifact) -> schemas.Upload:
    return schemas.Upload(
        id=upload.id,
        format="npz",
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        arrays=[schemas.UploadedArray.model_validate(array) for array in upload.arrays],
        created_at=upload.created_at,
    )


def _describe(dataset: Dataset, version: DatasetVersion, job: Job, artifact: Artifact | None) -> schemas.DatasetVersion:
    error = job.error if job.state == "failed" and job.error else {}
    return schemas.DatasetVersion(
        dataset=dataset.name,
        version=version.version,
        state=state_of(job),
        rows=version.rows,
        schema_=Schema.model_validate(version.schema) if version.schema else None,
        statistics=version.statistics,
        sha256=artifact.sha256 if artifact else None,
        size_bytes=artifact.size_bytes if artifact else None,
        source=version.source,
        errors=error.get("errors", []),
        detail=error.get("detail"),
        created_at=version.created_at,
    )
