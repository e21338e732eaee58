"""The checkpoints of a run: to list, to download, and to register as a model version."""

from collections.abc import Sequence

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from service.datasets.tables import Dataset, DatasetVersion
from service.registry import operations as registry
from service.registry.schemas import Lineage, ModelVersion, VersionRequest
from service.runs.tables import Run, RunCheckpoint, RunMetric
from service.shared.errors import NotFound
from service.shared.period import Period
from service.shared.storage.tables import Artifact


def of_run(session: Session, run_id: str) -> Sequence[Row[RunCheckpoint, Artifact]]:
    """A run's checkpoints with their files, newest first."""
    query = select(RunCheckpoint, Artifact).join(Artifact, Artifact.id == RunCheckpoint.artifact_id)
    newest_first = (RunCheckpoint.step.desc(), RunCheckpoint.id.desc())
    return session.execute(query.where(RunCheckpoint.run_id == run_id).order_by(*newest_first)).all()


def list_checkpoints(
    session: Session, run_id: str, period: Period, after: str | None, size: int
) -> Sequence[Row[RunCheckpoint, Artifact]]:
    """A run's checkpoints older than the checkpoint `after`, newest first."""
    query = (
        select(RunCheckpoint, Artifact)
        .join(Artifact, Artifact.id == RunCheckpoint.artifact_id)
        .where(RunCheckpoint.run_id == run_id, *period.of(RunCheckpoint.created_at))
        .order_by(RunCheckpoint.id.desc())
        .limit(size)
    )
    if after is not None:
        query = query.where(RunCheckpoint.id < after)
    return session.execute(query).all()


def find(session: Session, project_id: str, run_id: str, step: int | None) -> tuple[RunCheckpoint, Artifact]:
    """The checkpoint of a step; without one the newest. Raises NotFound."""
    owner = session.scalar(select(Run.id).where(Run.project_id == project_id, Run.id == run_id))
    if owner is None:
        raise NotFound("run", run_id)
    for checkpoint, artifact in of_run(session, run_id):
        if step is None or checkpoint.step == step:
            return checkpoint, artifact
    raise NotFound("checkpoint", f"{run_id} step {'any' if step is None else step}")


def register(session: Session, project_id: str, name: str, request: VersionRequest) -> ModelVersion:
    """Make a checkpoint the next version of a model, which may be new. Raises NotFound."""
    checkpoint, artifact = find(session, project_id, request.run, request.step)
    run, dataset, version, samples = session.execute(
        select(Run, Dataset.name, DatasetVersion.version, DatasetVersion.sha256)
        .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Run.id == request.run)
    ).one()
    reported = select(RunMetric.name, RunMetric.value).where(
        RunMetric.run_id == run.id, RunMetric.step == checkpoint.step
    )
    lineage = Lineage(
        run=run.id,
        attempt=checkpoint.attempt,
        step=checkpoint.step,
        dataset=dataset,
        dataset_version=version,
        dataset_sha256=samples,
        seed=run.seed,
        training=run.training,
        libraries=checkpoint.libraries,
        git_revision=checkpoint.git_revision,
    )
    metrics = {row.name: row.value for row in session.execute(reported)}
    number = registry.add_version(session, project_id, name, artifact.id, run.architecture, metrics, lineage)
    return registry.get_version(session, project_id, name, number)
