"""What a worker needs to know of a run whose job it has claimed."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig, parse
from service.datasets.tables import Dataset, DatasetVersion
from service.jobs.tables import Job
from service.runs import checkpoints
from service.runs.tables import Run
from service.shared.storage.tables import Artifact


@dataclass(frozen=True)
class Assignment:
    """All a worker needs to do a run. checkpoints: states to go on from, newest first."""

    run_id: str
    project_id: str
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


def assignment(session: Session, job_id: str) -> Assignment:
    """What the run of a claimed job asks for."""
    run, job, version, dataset, samples = session.execute(
        select(Run, Job, DatasetVersion, Dataset.name, Artifact)
        .join(Job, Job.id == Run.job_id)
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
        devices=job.devices,
        init=session.get(Artifact, run.init_artifact_id) if run.init_artifact_id else None,
        checkpoints=_to_go_on_from(session, run),
    )


def _to_go_on_from(session: Session, run: Run) -> list[Artifact]:
    """The run's own checkpoints, or those of the run that it tries again. After a divergence it begins anew."""
    own = checkpoints.of_run(session, run.id)
    if not own and run.retry_of is not None:
        own = checkpoints.of_run(session, run.retry_of)
    return [artifact for checkpoint, artifact in own if checkpoint.reason != "diverged"]
