"""What a worker reads of a run, and what it records: metrics, checkpoints and the result."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig, parse
from service.datasets.tables import Dataset, DatasetVersion
from service.jobs.operations import Claim
from service.jobs.tables import Job
from service.registry import operations as registry
from service.registry.schemas import Kernel, Lineage
from service.runs import checkpoints, newest_metrics
from service.runs.tables import Run, RunCheckpoint, RunMetric
from service.shared import storage
from service.shared.storage import Stored
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id

# Of the checkpoints that are made at intervals: the newest, and one to fall back to.
KEPT_INTERVALS = 2


@dataclass(frozen=True)
class Assignment:
    """All that a worker needs for an attempt at a run. checkpoints: states to resume from, newest first."""

    run_id: str
    project_id: str
    attempt: int
    model_name: str
    dataset: str
    dataset_version: int
    samples: Artifact
    config: MMVAEConfig | MMVRNNConfig
    training: TrainingConfig
    seed: int
    devices: int
    init: Artifact | None
    checkpoints: Sequence[Artifact]


@dataclass(frozen=True)
class Origin:
    """The code that computed a checkpoint or a result."""

    libraries: Mapping[str, str]
    git_revision: str | None


def assignment(session: Session, claim: Claim) -> Assignment:
    """The assignment of the claimed job of a run."""
    run, job, version, dataset, samples = session.execute(
        select(Run, Job, DatasetVersion, Dataset.name, Artifact)
        .join(Job, Job.id == Run.job_id)
        .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(Artifact, Artifact.id == DatasetVersion.artifact_id)
        .where(Run.job_id == claim.job_id)
    ).one()
    return Assignment(
        run_id=run.id,
        project_id=run.project_id,
        attempt=claim.attempt,
        model_name=run.model_name,
        dataset=dataset,
        dataset_version=version.version,
        samples=samples,
        config=parse(run.architecture),
        training=TrainingConfig.model_validate(run.training),
        seed=run.seed,
        devices=job.devices,
        init=session.get(Artifact, run.init_artifact_id) if run.init_artifact_id else None,
        checkpoints=_resumable(session, run),
    )


def record_metrics(
    session: Session, run_id: str, attempt: int, step: int, epoch: int, values: Mapping[str, float]
) -> None:
    """Add one value of each metric. JSON has no NaN and no infinity: they become null and a flag."""
    session.add_all(
        RunMetric(
            run_id=run_id,
            attempt=attempt,
            name=name,
            step=step,
            epoch=epoch,
            value=finite(value),
            not_finite=None if math.isfinite(value) else str(value),
        )
        for name, value in values.items()
    )
    newest_metrics.record(session, run_id, {name: finite(value) for name, value in values.items()})


def record_checkpoint(
    session: Session,
    run_id: str,
    attempt: int,
    stored: Stored,
    max_bytes: int | None,
    step: int,
    reason: str,
    origin: Origin,
) -> None:
    """T5: record a checkpoint whose file is durable, in the transaction that renews the attempt's lease.

    max_bytes: what the project may store. Raises QuotaExceeded.
    """
    if reason == "interval":
        _remove_older(session, run_id)  # first, so that there is room for the new one
    artifact = storage.record(session, stored, max_bytes)
    checkpoint = RunCheckpoint(
        id=new_id("ckp"),
        run_id=run_id,
        attempt=attempt,
        step=step,
        reason=reason,
        artifact_id=artifact.id,
        libraries=dict(origin.libraries),
        git_revision=origin.git_revision,
    )
    session.add(checkpoint)
    session.flush()


def complete(
    session: Session,
    assigned: Assignment,
    stored: Stored,
    max_bytes: int | None,
    metrics: Mapping[str, float],
    evaluation: Mapping[str, Any] | None,
    kernels: Sequence[Mapping[str, Any]],
    origin: Origin,
) -> int:
    """Register the result as the next version of the run's model, in the transaction that ends the job (T6).

    max_bytes: what the project may store. Numbers that are not finite become null. Returns the version's number.
    Raises QuotaExceeded.
    """
    measured: dict[str, Any] | None = finite_throughout(evaluation)
    session.get_one(Run, assigned.run_id).evaluation = measured
    lineage = Lineage(
        run=assigned.run_id,
        attempt=assigned.attempt,
        dataset=assigned.dataset,
        dataset_version=assigned.dataset_version,
        dataset_sha256=assigned.samples.sha256,
        seed=assigned.seed,
        training=assigned.training.model_dump(mode="json"),
        libraries=dict(origin.libraries),
        git_revision=origin.git_revision,
        kernels=[Kernel.model_validate(kernel) for kernel in kernels],
    )
    return registry.add_version(
        session,
        assigned.project_id,
        assigned.model_name,
        storage.record(session, stored, max_bytes).id,
        assigned.config.model_dump(mode="json"),
        {name: finite(value) for name, value in metrics.items()},
        lineage,
        measured,
        run_id=assigned.run_id,
    )


def finite(value: float) -> float | None:
    """The value as JSON can hold it: None for NaN and the infinities."""
    return value if math.isfinite(value) else None


def finite_throughout(value: Any) -> Any:
    """The same nested mappings and lists with None for every NaN and infinity."""
    match value:
        case float():
            return finite(value)
        case Mapping():
            return {key: finite_throughout(part) for key, part in value.items()}
        case list():
            return [finite_throughout(part) for part in value]
    return value


def _resumable(session: Session, run: Run) -> list[Artifact]:
    """The run's own checkpoints, or those of the run that it retries; none from which the training diverged."""
    own = checkpoints.of_run(session, run.id)
    if not own and run.retry_of is not None:
        own = checkpoints.of_run(session, run.retry_of)
    return [artifact for checkpoint, artifact in own if checkpoint.reason != "diverged"]


def _remove_older(session: Session, run_id: str) -> None:
    """Remove interval checkpoints, so that one more makes `KEPT_INTERVALS`."""
    of_intervals = (
        select(RunCheckpoint)
        .where(RunCheckpoint.run_id == run_id, RunCheckpoint.reason == "interval")
        .order_by(RunCheckpoint.id.desc())
    )
    old = session.scalars(of_intervals.offset(KEPT_INTERVALS - 1)).all()
    session.execute(delete(RunCheckpoint).where(RunCheckpoint.id.in_([checkpoint.id for checkpoint in old])))
    storage.release(session, [checkpoint.artifact_id for checkpoint in old])
