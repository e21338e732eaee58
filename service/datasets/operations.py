"""The rows of datasets and their versions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from service.datasets import formats, schemas, uploads
from service.datasets.declaration import Declaration
from service.datasets.layout import REJECTED
from service.datasets.tables import Dataset, DatasetVersion, Upload
from service.jobs import operations as jobs
from service.jobs.tables import Job
from service.shared import events, storage
from service.shared.database import find_or_add
from service.shared.errors import BadInput, Conflict, NotFound
from service.shared.events import Resource
from service.shared.period import Period
from service.shared.samples import Schema
from service.shared.storage import Stored
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id

QUEUE: Literal["data"] = "data"
KIND = "convert"
# Rows of a list that are in memory together.
ROWS_AT_ONCE = 5

_NOT_PURGED = (Dataset.purged_at.is_(None), DatasetVersion.purged_at.is_(None))

# The state of a dataset version follows from the state of its job.
_STATES: dict[str, schemas.DatasetState] = {
    "queued": "validating",
    "running": "validating",
    "paused": "validating",
    "succeeded": "ready",
    "failed": "failed",
    "cancelled": "cancelled",
}


class Conversion(NamedTuple):
    """The input of a convert job. file and format: those of an upload."""

    source: dict[str, Any]
    declaration: Declaration
    file: Artifact | None = None
    format: str | None = None


def create_version(
    session: Session, project_id: str, request: schemas.DatasetRequest
) -> tuple[schemas.DatasetVersion, str]:
    """Check that the source can become a dataset, and queue its conversion. Returns the version and the job's id.

    Raises NotFound for an unknown upload, BadInput with everything in it that does not fit.
    """
    if isinstance(request.source, schemas.UploadSource):
        # locked, so that it is not deleted before the version refers to it
        _check(uploads.find(session, project_id, request.source.upload, lock=True), request.declaration)
    named = select(Dataset).where(Dataset.project_id == project_id, Dataset.name == request.name)
    new = Dataset(id=new_id("dat"), project_id=project_id, name=request.name)
    # locked, so that concurrent requests get different numbers
    dataset = find_or_add(session, named.with_for_update(), new)
    if dataset.deleted_at is not None:
        if dataset.purged_at is None:
            events.record(session, project_id, "dataset.restored", Resource("dataset", dataset.name))
        dataset.deleted_at = dataset.purged_at = None
    newest = session.scalar(select(func.max(DatasetVersion.version)).where(DatasetVersion.dataset_id == dataset.id))
    number = (newest or 0) + 1
    resource = Resource("dataset_version", f"{dataset.name}/{number}")
    job = jobs.create(session, project_id, KIND, QUEUE, resource=resource)
    version = DatasetVersion(
        id=new_id("dsv"),
        dataset_id=dataset.id,
        job_id=job.id,
        version=number,
        source=request.source.model_dump(exclude_none=True),
        declaration=request.declaration.model_dump(),
    )
    session.add(version)
    session.flush()
    return _describe(dataset.name, version, job, None), job.id


def get_version(session: Session, project_id: str, name: str, number: int) -> schemas.DatasetVersion:
    """One version of a dataset. Raises NotFound."""
    dataset, version, job = find_version(session, project_id, name, number)
    artifact = session.get_one(Artifact, version.artifact_id) if version.artifact_id else None
    return _describe(dataset.name, version, job, artifact)


def find_dataset(session: Session, project_id: str, name: str, lock: bool = False) -> Dataset:
    """A dataset, which may be deleted. lock: prevent its deletion until the transaction ends. Raises NotFound."""
    query = select(Dataset).where(Dataset.project_id == project_id, Dataset.name == name, Dataset.purged_at.is_(None))
    dataset = session.scalar(query.with_for_update(read=True) if lock else query)
    if dataset is None:
        raise NotFound("dataset", name)
    return dataset


def find_version(session: Session, project_id: str, name: str, number: int) -> tuple[Dataset, DatasetVersion, Job]:
    """The rows of a version, which may be deleted. Raises NotFound, also for purged ones."""
    query = (
        select(Dataset, DatasetVersion, Job)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .join(Job, Job.id == DatasetVersion.job_id)
        .where(Dataset.project_id == project_id, Dataset.name == name, DatasetVersion.version == number, *_NOT_PURGED)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound("dataset version", f"{name}/{number}")
    return row[0], row[1], row[2]


def ready_version(
    session: Session, project_id: str, name: str, number: int | None, lock: bool = False
) -> tuple[Dataset, DatasetVersion, Artifact]:
    """The rows of a ready version, and its file; number None is the newest one that is not deleted.

    lock: prevent its deletion until the transaction ends. Raises NotFound, and Conflict for one that is not ready, or
    deleted.
    """
    dataset = find_dataset(session, project_id, name, lock)
    query = (
        select(DatasetVersion, Job)
        .join(Job, Job.id == DatasetVersion.job_id)
        .where(DatasetVersion.dataset_id == dataset.id, DatasetVersion.purged_at.is_(None))
        .order_by(DatasetVersion.deleted_at.is_not(None), DatasetVersion.version.desc())
        .limit(1)
    )
    row = session.execute(query if number is None else query.where(DatasetVersion.version == number)).one_or_none()
    if row is None:
        raise NotFound("dataset version", name if number is None else f"{name}/{number}")
    version, job = row
    _check_kept(dataset, version)
    state = state_of(job)
    if state != "ready" or version.artifact_id is None:
        raise Conflict("dataset_not_ready", f"dataset {name!r} version {version.version} is {state}, expected ready")
    return dataset, version, session.get_one(Artifact, version.artifact_id)


def check_kept(session: Session, version_id: str) -> None:
    """Raise Conflict if a version is deleted; prevent its deletion until the transaction ends."""
    version = session.get_one(DatasetVersion, version_id)
    dataset = session.get_one(Dataset, version.dataset_id, with_for_update={"read": True})
    session.refresh(version)
    _check_kept(dataset, version)


def get_dataset(session: Session, project_id: str, name: str) -> schemas.Dataset:
    """A dataset, which may be deleted. Raises NotFound."""
    row = session.execute(_datasets(project_id).where(Dataset.name == name)).one_or_none()
    if row is None:
        raise NotFound("dataset", name)
    return _describe_dataset(*row)


def list_versions(
    session: Session, project_id: str, name: str, deleted: bool, period: Period, after: str | None, size: int
) -> Iterator[tuple[str, schemas.DatasetVersion]]:
    """A dataset's versions newest first, each with its id for paging: the deleted ones, or the others.

    They are read few by few, since each may have thousands of modalities. Raises NotFound for an unknown dataset.
    """
    dataset = find_dataset(session, project_id, name)
    query = (
        select(DatasetVersion, Job, Artifact)
        .join(Job, Job.id == DatasetVersion.job_id)
        .outerjoin(Artifact, Artifact.id == DatasetVersion.artifact_id)
        .where(DatasetVersion.dataset_id == dataset.id, *_listed(DatasetVersion, deleted))
        .where(*period.of_ids(DatasetVersion.created_at, DatasetVersion.id, "dsv"))
        .order_by(DatasetVersion.id.desc())
        .limit(size)
    )
    if after is not None:
        query = query.where(DatasetVersion.id < after)
    for version, job, file in session.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
        yield version.id, _describe(name, version, job, file)


def list_datasets(
    session: Session, project_id: str, deleted: bool, period: Period, after: str | None, size: int
) -> Sequence[tuple[str, schemas.Dataset]]:
    """Datasets newest first, each with its id for paging: the deleted ones, or the others."""
    query = _datasets(project_id).where(*_listed(Dataset, deleted)).order_by(Dataset.id.desc()).limit(size)
    query = query.where(*period.of_ids(Dataset.created_at, Dataset.id, "dat"))
    if after is not None:
        query = query.where(Dataset.id < after)
    return [(dataset.id, _describe_dataset(dataset, newest)) for dataset, newest in session.execute(query)]


def conversion(session: Session, job_id: str) -> Conversion:
    """The input of a convert job: its source, the file of an upload, and the declaration."""
    version = session.scalars(select(DatasetVersion).where(DatasetVersion.job_id == job_id)).one()
    declaration = Declaration.model_validate(version.declaration)
    if "upload" not in version.source:
        return Conversion(version.source, declaration)
    upload = session.get_one(Upload, version.source["upload"])
    return Conversion(version.source, declaration, session.get_one(Artifact, upload.artifact_id), upload.format)


def complete(
    session: Session,
    job_id: str,
    rows: int,
    schema: Schema,
    statistics: dict[str, Any],
    warnings: list[dict[str, Any]],
    stored: Stored,
    max_bytes: int | None,
) -> None:
    """Record the result of a conversion. The caller ends the job in the same transaction.

    max_bytes: what the project may store. Raises QuotaExceeded.
    """
    version = session.scalars(select(DatasetVersion).where(DatasetVersion.job_id == job_id)).one()
    version.artifact_id = storage.record(session, stored, max_bytes).id
    version.sha256 = stored.sha256
    version.rows = rows
    version.schema = schema.model_dump(mode="json")
    version.statistics = statistics
    version.warnings = warnings


def state_of(job: Job) -> schemas.DatasetState:
    """The state of a dataset version, derived from its job."""
    if job.state == "failed" and job.error and job.error["code"] == REJECTED:
        return "rejected"
    return _STATES[job.state]


def _check_kept(dataset: Dataset, version: DatasetVersion) -> None:
    path = f"/v1/datasets/{dataset.name}"
    if version.purged_at is not None:
        raise Conflict("dataset_deleted", f"dataset {dataset.name!r} version {version.version} was purged")
    if dataset.deleted_at is not None:
        raise Conflict("dataset_deleted", f"dataset {dataset.name!r} is deleted; POST {path}/restore undoes it")
    if version.deleted_at is not None:
        undo = f"POST {path}/versions/{version.version}/restore undoes it"
        raise Conflict("dataset_deleted", f"dataset {dataset.name!r} version {version.version} is deleted; {undo}")


def _datasets(project_id: str) -> Select[Dataset, int | None]:
    newest = select(func.max(DatasetVersion.version)).where(
        DatasetVersion.dataset_id == Dataset.id, DatasetVersion.deleted_at.is_(None)
    )
    return select(Dataset, newest.scalar_subquery()).where(
        Dataset.project_id == project_id, Dataset.purged_at.is_(None)
    )


def _listed(table: type[Dataset] | type[DatasetVersion], deleted: bool) -> Sequence[ColumnElement[bool]]:
    if not deleted:
        return (table.deleted_at.is_(None),)
    return table.deleted_at.is_not(None), table.purged_at.is_(None)


def _describe_dataset(dataset: Dataset, newest: int | None) -> schemas.Dataset:
    return schemas.Dataset(
        name=dataset.name, latest_version=newest, created_at=dataset.created_at, deleted_at=dataset.deleted_at
    )


def _check(upload: Upload, declaration: Declaration) -> None:
    """Check the upload as far as its format can before the conversion. Faults of the file point to `/source/upload`."""
    try:
        formats.find(upload.format).check_declaration(uploads.headers(upload), declaration)
    except BadInput as error:
        own_prefix = ("/schema",)
        faults = [f if f.pointer.startswith(own_prefix) else replace(f, pointer="/source/upload") for f in error.faults]
        raise BadInput(faults) from error


def _describe(name: str, version: DatasetVersion, job: Job, artifact: Artifact | None) -> schemas.DatasetVersion:
    error = job.error if job.state == "failed" and job.error else {}
    return schemas.DatasetVersion(
        dataset=name,
        version=version.version,
        state=state_of(job),
        rows=version.rows,
        schema_=Schema.model_validate(version.schema) if version.schema else None,
        statistics=version.statistics,
        warnings=version.warnings,
        sha256=version.sha256,
        size_bytes=artifact.size_bytes if artifact else None,
        source=version.source,
        declared=_declared(version.declaration),
        errors=error.get("errors", []),
        detail=error.get("detail"),
        progress=1.0 if job.state == "succeeded" else job.progress,
        waiting_reason=job.waiting_reason if job.state == "queued" else None,
        created_at=version.created_at,
        deleted_at=version.deleted_at,
    )


def _declared(stored: dict[str, Any]) -> dict[str, Any]:
    """The declaration without defaults. It is not validated: one of an earlier release may not be valid today."""
    defaults = Declaration().model_dump(mode="json")
    declared = {field: value for field, value in stored.items() if value != defaults.get(field)}
    if "modalities" in declared:
        modalities = declared["modalities"].items()
        declared["modalities"] = {
            name: {f: v for f, v in fields.items() if v is not None} for name, fields in modalities
        }
    return declared
