"""Models and versions in SQL."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from service.registry import schemas
from service.runs import checkpoints
from service.runs.assignments import Assignment
from service.shared import storage
from service.shared.database import find_or_add
from service.shared.errors import NotFound
from service.shared.storage import Stored
from service.shared.tables import Artifact, Dataset, DatasetVersion, Model, ModelVersion, Run, RunMetric, new_id


def add_version(
    session: Session,
    assignment: Assignment,
    attempt: int,
    stored: Stored,
    metrics: Mapping[str, float | None],
    libraries: Mapping[str, str],
) -> int:
    """Record what a run made as the next version of its model; the caller ends the job in the same transaction."""
    lineage = schemas.Lineage(
        run=assignment.run_id,
        attempt=attempt,
        dataset=assignment.dataset,
        dataset_version=assignment.dataset_version,
        dataset_sha256=assignment.samples.sha256,
        seed=assignment.seed,
        libraries=dict(libraries),
    )
    version = ModelVersion(
        run_id=assignment.run_id,
        artifact_id=storage.record(session, stored).id,
        config=assignment.config.model_dump(mode="json"),
        metrics=dict(metrics),
        lineage=lineage.model_dump(mode="json"),
    )
    return _number(session, assignment.project_id, assignment.model_name, version)


def register_checkpoint(
    session: Session, project_id: str, name: str, request: schemas.VersionRequest
) -> schemas.ModelVersion:
    """Make a run's checkpoint the next version of a model, which may be new. Raises NotFound."""
    checkpoint, artifact = checkpoints.find(session, project_id, request.run, request.step)
    run, dataset, version, samples = session.execute(
        select(Run, Dataset.name, DatasetVersion.version, DatasetVersion.sha256)
        .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Run.id == request.run)
    ).one()
    reported = select(RunMetric.name, RunMetric.value).where(
        RunMetric.run_id == run.id, RunMetric.step == checkpoint.step
    )
    lineage = schemas.Lineage(
        run=run.id,
        attempt=checkpoint.attempt,
        step=checkpoint.step,
        dataset=dataset,
        dataset_version=version,
        dataset_sha256=samples,
        seed=run.seed,
        libraries={},
    )
    made = ModelVersion(
        run_id=None,
        artifact_id=artifact.id,
        config=run.architecture,
        metrics={row.name: row.value for row in session.execute(reported)},
        lineage=lineage.model_dump(mode="json"),
    )
    return get_version(session, project_id, name, _number(session, project_id, name, made))


def get_model(session: Session, project_id: str, name: str) -> schemas.Model:
    """One model. Raises NotFound."""
    row = session.execute(_models(project_id).where(Model.name == name)).one_or_none()
    if row is None:
        raise NotFound("model", name)
    return _describe_model(*row)


def list_models(session: Session, project_id: str, after: str | None, size: int) -> Sequence[tuple[str, schemas.Model]]:
    """Models newest first, each with its id for paging."""
    query = _models(project_id).order_by(Model.id.desc()).limit(size)
    if after is not None:
        query = query.where(Model.id < after)
    return [(row.Model.id, _describe_model(*row)) for row in session.execute(query)]


def get_version(session: Session, project_id: str, name: str, number: int) -> schemas.ModelVersion:
    """One version of a model. Raises NotFound."""
    _, version, artifact = find_version(session, project_id, name, number)
    return _describe(name, version, artifact)


def list_versions(
    session: Session, project_id: str, name: str, after: str | None, size: int
) -> Sequence[tuple[str, schemas.ModelVersion]]:
    """A model's versions newest first, each with its id for paging. Raises NotFound for an unknown model."""
    get_model(session, project_id, name)
    query = _versions(project_id, name).order_by(ModelVersion.id.desc()).limit(size)
    if after is not None:
        query = query.where(ModelVersion.id < after)
    return [(version.id, _describe(name, version, artifact)) for _, version, artifact in session.execute(query)]


def find_version(session: Session, project_id: str, name: str, number: int) -> tuple[Model, ModelVersion, Artifact]:
    """The rows of one version. Raises NotFound."""
    row = session.execute(_versions(project_id, name).where(ModelVersion.version == number)).one_or_none()
    if row is None:
        raise NotFound("model version", f"{name}/{number}")
    return row[0], row[1], row[2]


def _number(session: Session, project_id: str, name: str, version: ModelVersion) -> int:
    """Add a version under the next number of its model."""
    named = select(Model).where(Model.project_id == project_id, Model.name == name)
    new = Model(id=new_id("mod"), project_id=project_id, name=name)
    # locked, so that two that come at once are numbered one after the other
    model = find_or_add(session, named.with_for_update(), new)
    newest = session.scalar(select(func.max(ModelVersion.version)).where(ModelVersion.model_id == model.id))
    version.id, version.model_id, version.version = new_id("mdv"), model.id, (newest or 0) + 1
    session.add(version)
    session.flush()
    return version.version


def _models(project_id: str) -> Select[Model, int]:
    newest = select(func.max(ModelVersion.version)).where(ModelVersion.model_id == Model.id).scalar_subquery()
    return select(Model, newest).where(Model.project_id == project_id)


def _versions(project_id: str, name: str) -> Select[Model, ModelVersion, Artifact]:
    return (
        select(Model, ModelVersion, Artifact)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .join(Artifact, Artifact.id == ModelVersion.artifact_id)
        .where(Model.project_id == project_id, Model.name == name)
    )


def _describe_model(model: Model, newest: int) -> schemas.Model:
    return schemas.Model(name=model.name, latest_version=newest, created_at=model.created_at)


def _describe(name: str, version: ModelVersion, artifact: Artifact) -> schemas.ModelVersion:
    return schemas.ModelVersion(
        model=name,
        version=version.version,
        config=version.config,
        metrics=version.metrics,
        lineage=schemas.Lineage.model_validate(version.lineage),
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        created_at=version.created_at,
    )
