"""The runs and models of a dataset, and the deletion of a dataset, which keeps the rows that they refer to."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.datasets import deletion
from service.datasets import operations as datasets
from service.datasets.tables import Dataset, DatasetVersion, Upload
from service.jobs import operations as jobs
from service.jobs.tables import FINAL_STATES, Job
from service.lineage import schemas
from service.registry.tables import Model, ModelVersion
from service.runs.tables import Run
from service.shared.errors import Conflict, Fault
from service.shared.storage.tables import Artifact

MAX_USERS = 1000
MAX_NAMED_USERS = 20


def lineage(session: Session, project_id: str, name: str, number: int) -> schemas.DatasetLineage:
    """The source of a dataset version, and the runs and models that use it. Raises NotFound."""
    dataset, version, _ = datasets.find_version(session, project_id, name, number)
    uploaded = (
        select(Artifact.sha256)
        .join(Upload, Upload.artifact_id == Artifact.id)
        .where(Upload.id == version.source.get("upload", ""))
    )
    return schemas.DatasetLineage(
        dataset=dataset.name,
        version=version.version,
        sha256=version.sha256,
        source=version.source,
        source_sha256=session.scalar(uploaded),
        users=[*users(session, project_id, dataset.name, [version])],
    )


def users(
    session: Session, project_id: str, name: str, versions: Sequence[DatasetVersion]
) -> Sequence[schemas.DatasetUser]:
    """The models and runs that use these versions of a dataset, newest first."""
    runs = (
        select(Run.id, Run.created_at)
        .where(Run.dataset_version_id.in_([version.id for version in versions]))
        .order_by(Run.job_id.desc())
        .limit(MAX_USERS)
    )
    # A model version remembers the dataset by its name: its run may have been deleted.
    models = (
        select(Model.name, ModelVersion.version, ModelVersion.created_at)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            Model.project_id == project_id,
            ModelVersion.lineage["dataset"].as_string() == name,
            ModelVersion.lineage["dataset_version"].as_integer().in_([version.version for version in versions]),
            # an imported version may name a dataset of another server
            ModelVersion.lineage["dataset_sha256"].as_string().in_([version.sha256 for version in versions]),
        )
        .order_by(ModelVersion.id.desc())
        .limit(MAX_USERS)
    )
    model_users = [
        schemas.DatasetUser(kind="model version", name=f"{row.name}/{row.version}", created_at=row.created_at)
        for row in session.execute(models)
    ]
    return model_users + [
        schemas.DatasetUser(kind="run", name=row.id, created_at=row.created_at) for row in session.execute(runs)
    ]


def delete_version(session: Session, project_id: str, name: str, number: int, force: bool, purge: bool) -> None:
    """Mark a version as deleted, and cancel its conversion; `purge` deletes its file, also if it was marked before.

    Raises NotFound, and Conflict that names the runs and models of it, unless forced: then runs that have not ended
    are cancelled, and models stay.
    """
    dataset = deletion.lock(session, project_id, name)
    version = deletion.version_of(session, dataset, number)
    _free(session, dataset, [version], force)
    if purge:
        deletion.purge(session, dataset, [version])
    else:
        deletion.mark(session, dataset, version)


def delete_dataset(session: Session, project_id: str, name: str, force: bool, purge: bool) -> None:
    """Delete a dataset with all its versions, as `delete_version` deletes one."""
    dataset = deletion.lock(session, project_id, name)
    _free(session, dataset, deletion.versions_of(session, dataset), force)
    if purge:
        deletion.purge_dataset(session, dataset)
    else:
        deletion.mark(session, dataset)


def _free(session: Session, dataset: Dataset, versions: Sequence[DatasetVersion], force: bool) -> None:
    """End what still needs the versions: conversions, and if it is forced, runs. Raises Conflict."""
    used = users(session, dataset.project_id, dataset.name, versions)
    if used and not force:
        raise _in_use(dataset.name, [f"{user.kind} {user.name}" for user in used])
    for job_id in _unfinished(session, versions):
        jobs.cancel(session, job_id)


def _unfinished(session: Session, versions: Sequence[DatasetVersion]) -> Sequence[str]:
    """Jobs that make these versions, or train on them."""
    runs = select(Run.job_id).where(Run.dataset_version_id.in_([version.id for version in versions]))
    conversions = [version.job_id for version in versions]
    unfinished = select(Job.id).where(
        Job.id.in_(conversions) | Job.id.in_(runs), Job.state.not_in(FINAL_STATES), Job.cancel_requested.is_(False)
    )
    return session.scalars(unfinished).all()


def _in_use(name: str, used: Sequence[str]) -> Conflict:
    more = f" and {len(used) - MAX_NAMED_USERS} more" if len(used) > MAX_NAMED_USERS else ""
    named = ", ".join(used[:MAX_NAMED_USERS])
    conflict = Conflict("dataset_in_use", f"dataset {name!r} is used by {named}{more}; force deletes it anyway")
    conflict.faults = tuple(Fault("", "used_by", user) for user in used[:MAX_NAMED_USERS])
    return conflict
