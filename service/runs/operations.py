"""Training runs in SQL. A run says what was asked for; its job carries its state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import ValidationError
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from models.config import (
    LikelihoodName,
    Misfits,
    MMVAEConfig,
    MMVAEOptions,
    MMVRNNConfig,
    MMVRNNOptions,
    ModalityConfig,
    TrainingConfig,
    complete,
    default_likelihood,
    parse,
)
from models.config.training import misfits
from service.datasets import operations as datasets
from service.jobs import operations as jobs
from service.runs import metrics, schemas
from service.shared.errors import BadInput, Conflict, Fault, NotFound, pointer
from service.shared.samples import ModalitySchema, Schema
from service.shared.tables import Artifact, Dataset, DatasetVersion, Job, ModelVersion, Run, new_id

QUEUE: Literal["train"] = "train"
KIND = "train"


@dataclass(frozen=True)
class Assignment:
    """All a worker needs to do a run."""

    run_id: str
    project_id: str
    model_name: str
    dataset: str
    dataset_version: int
    samples: Artifact
    config: MMVAEConfig | MMVRNNConfig
    training: TrainingConfig
    seed: int


def create(session: Session, project_id: str, request: schemas.RunRequest) -> schemas.Run:
    """Check the request against the dataset and queue it.

    Raises NotFound for an unknown dataset, Conflict for one that is not ready, BadInput for an architecture that
    cannot train on it.
    """
    name, number = request.dataset.name, request.dataset.version
    dataset, version, conversion = datasets.find_version(session, project_id, name, number)
    state = datasets.state_of(conversion)
    if state != "ready" or version.schema is None:
        raise Conflict("dataset_not_ready", f"dataset {name!r} version {version.version} is {state}, expected ready")
    config = _config(request, Schema.model_validate(version.schema), version.rows or 0)
    job = jobs.create(session, project_id, KIND, QUEUE)
    run = Run(
        id=new_id("run"),
        project_id=project_id,
        job_id=job.id,
        dataset_version_id=version.id,
        model_name=request.model,
        architecture=config.model_dump(mode="json"),
        training=request.training.model_dump(mode="json"),
        seed=request.seed,
    )
    session.add(run)
    session.flush()
    return _describe(run, job, dataset.name, version.version, None, {})


def get(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """One run. Raises NotFound."""
    row = session.execute(_rows(project_id).where(Run.id == run_id)).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return _describe(*row, metrics.latest(session, [run_id])[run_id])


def list_runs(session: Session, project_id: str, after: str | None, size: int) -> list[schemas.Run]:
    """Runs newest first, behind the id `after`."""
    query = _rows(project_id).order_by(Run.id.desc()).limit(size)
    if after is not None:
        query = query.where(Run.id < after)
    rows = session.execute(query).all()
    newest = metrics.latest(session, [row[0].id for row in rows])
    return [_describe(*row, newest[row[0].id]) for row in rows]


def cancel(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """Cancel a queued run, or ask a running one to stop. Raises NotFound, and Conflict when it has ended."""
    jobs.cancel(session, job_of(session, project_id, run_id))
    session.expire_all()
    return get(session, project_id, run_id)


def job_of(session: Session, project_id: str, run_id: str) -> str:
    """The id of a run's job. Raises NotFound."""
    job_id = session.scalar(select(Run.job_id).where(Run.project_id == project_id, Run.id == run_id))
    if job_id is None:
        raise NotFound("run", run_id)
    return job_id


def assignment(session: Session, job_id: str) -> Assignment:
    """What the run of a claimed job asks for."""
    run, version, dataset, samples = session.execute(
        select(Run, DatasetVersion, Dataset.name, Artifact)
        .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(Artifact, Artifact.id == DatasetVersion.artifact_id)
        .where(Run.job_id == job_id)
    ).one()
    return Assignment(
        run_id=run.id,
        project_id=run.project_id,
        model_name=run.model_name,
        dataset=dataset,
        dataset_version=version.version,
        samples=samples,
        config=parse(run.architecture),
        training=TrainingConfig.model_validate(run.training),
        seed=run.seed,
    )


def evaluation(session: Session, project_id: str, run_id: str) -> schemas.Evaluation:
    """How good a run's model is. Raises NotFound, also for a run that has not ended with a model."""
    job_of(session, project_id, run_id)
    found = session.scalar(select(Run.evaluation).where(Run.id == run_id))
    if found is None:
        raise NotFound("evaluation of run", run_id)
    return schemas.Evaluation.model_validate(found)


def keep_evaluation(session: Session, run_id: str, found: Mapping[str, Any]) -> None:
    """Record what the trainer found on held-out rows; a figure that is not finite is null."""
    session.get_one(Run, run_id).evaluation = metrics.finite_throughout(found)


def _config(request: schemas.RunRequest, schema: Schema, rows: int) -> MMVAEConfig | MMVRNNConfig:
    """The model to train. Raises BadInput with everything that does not fit the dataset."""
    options = request.architecture or (MMVAEOptions() if schema.kind == "static" else MMVRNNOptions())
    if options.kind != schema.kind:
        detail = f"architecture {options.architecture!r} trains on {options.kind} data, the dataset is {schema.kind}"
        raise BadInput([Fault("/architecture/architecture", "wrong_kind", detail)])
    try:
        modalities = [_modality(modality) for modality in schema.modalities]
    except ValidationError as error:
        faults = [Fault("/dataset", e["type"], f"the dataset's {e['loc']}: {e['msg']}") for e in error.errors()]
        raise BadInput(faults) from error
    try:
        config = complete(options, modalities)
    except Misfits as error:
        raise BadInput([Fault(pointer("architecture", *m.place), "misfit", m.detail) for m in error.found]) from error
    if found := misfits(request.training, config, rows):
        raise BadInput([Fault(pointer("training", *m.place), "misfit", m.detail) for m in found])
    return config


def _modality(schema: ModalitySchema) -> ModalityConfig:
    return ModalityConfig(
        name=schema.name,
        shape=schema.shape,
        categories=schema.categories,
        likelihood=cast(LikelihoodName | None, schema.likelihood)
        or default_likelihood(schema.dtype, schema.categories),
    )


def _rows(project_id: str) -> Select[Run, Job, str, int, int]:
    return (
        select(Run, Job, Dataset.name, DatasetVersion.version, ModelVersion.version)
        .join(Job, Job.id == Run.job_id)
        .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .outerjoin(ModelVersion, ModelVersion.run_id == Run.id)
        .where(Run.project_id == project_id)
    )


def _describe(
    run: Run, job: Job, dataset: str, dataset_version: int, version: int | None, newest: Mapping[str, float | None]
) -> schemas.Run:
    return schemas.Run(
        id=run.id,
        state=job.state,
        phase=job.phase,
        progress=job.progress,
        eta_seconds=job.eta_seconds,
        attempt=job.attempt,
        cancel_requested=job.cancel_requested,
        error=schemas.RunError.model_validate(job.error) if job.error else None,
        dataset=schemas.DatasetReference(name=dataset, version=dataset_version),
        model=run.model_name,
        version=version,
        architecture=run.architecture,
        training=TrainingConfig.model_validate(run.training),
        seed=run.seed,
        metrics=dict(newest),
        created_at=run.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )
