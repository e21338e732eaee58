"""Reads runs: one, or a page of a list."""

from collections.abc import Sequence

from sqlalchemy import Row, Select, bindparam, select
from sqlalchemy.orm import Session

from models.config import in_todays_form
from service.datasets.tables import Dataset, DatasetVersion
from service.jobs import queue_position
from service.jobs.queue_position import Wait
from service.jobs.tables import Job
from service.registry.schemas import Evaluation
from service.registry.tables import ModelVersion
from service.runs import newest_metrics, schemas, selection
from service.runs.selection import Filters, Order, Place
from service.runs.tables import Run, RunTag
from service.shared.errors import NotFound

RunRow = tuple[Run, Job, str, int, int | None]

# Built once: clients poll runs, and building the statement takes longer than running it.
_RUNS: Select[*RunRow] = (
    select(Run, Job, Dataset.name, DatasetVersion.version, ModelVersion.version)
    .join(Job, Job.id == Run.job_id)
    .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
    .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    .outerjoin(ModelVersion, ModelVersion.run_id == Run.id)
)
_ASKED_FOR = (Run.project_id == bindparam("project_id"), Run.id == bindparam("run_id"))
_RUN = _RUNS.where(*_ASKED_FOR)
_JOB_ID = select(Run.job_id).where(*_ASKED_FOR)
_TAGS = (
    select(RunTag.run_id, RunTag.tag)
    .where(RunTag.run_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(RunTag.tag)
)


def get(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """One run with its position in the queue. Raises NotFound."""
    row = session.execute(_RUN, {"project_id": project_id, "run_id": run_id}).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    job = row[1]
    metrics = newest_metrics.of_jobs(session, [job.id])[job.id]
    return _described(row, tags_of(session, [run_id])[run_id], metrics, queue_position.find(session, [job])[job.id])


def list_runs(
    session: Session, project_id: str, filters: Filters, order: Order, after: str | None, size: int
) -> list[tuple[str, schemas.Run]]:
    """At most `size` runs behind the key `after`, each with its own key: that of the last leads to the next page.

    Raises BadInput for a metric that no run of the project has reported.
    """
    last = None if after is None else Place.of(after, order)
    places = selection.page(session, project_id, filters, order, last, size)
    runs = describe(session, [place.job_id for place in places])
    return [(place.key(order), run) for place, run in zip(places, runs, strict=True)]


def job_of(session: Session, project_id: str, run_id: str) -> str:
    """The id of a run's job. Raises NotFound."""
    job_id = session.scalar(_JOB_ID, {"project_id": project_id, "run_id": run_id})
    if job_id is None:
        raise NotFound("run", run_id)
    return job_id


def evaluation(session: Session, project_id: str, run_id: str) -> Evaluation:
    """The evaluation of a run's model. Raises NotFound, also for a run that has made no model."""
    job_of(session, project_id, run_id)
    stored = session.scalar(select(Run.evaluation).where(Run.id == run_id))
    if stored is None:
        raise NotFound("evaluation of run", run_id)
    return Evaluation.model_validate(stored)


def describe(session: Session, job_ids: Sequence[str]) -> list[schemas.Run]:
    """The runs of these jobs, in their order."""
    rows = {row[1].id: row for row in session.execute(_RUNS.where(Run.job_id.in_(job_ids)))}
    tags = tags_of(session, [row[0].id for row in rows.values()])
    metrics = newest_metrics.of_jobs(session, list(rows))
    waits = queue_position.find(session, [row[1] for row in rows.values()])
    return [_described(rows[job_id], tags[rows[job_id][0].id], metrics[job_id], waits[job_id]) for job_id in job_ids]


def _described(row: Row[*RunRow], tags: list[str], metrics: dict[str, float | None], waits: Wait) -> schemas.Run:
    run, job, dataset, dataset_version, version = row
    return schemas.Run(
        id=run.id,
        state=job.state,
        phase=job.phase,
        progress=job.progress,
        eta_seconds=job.eta_seconds,
        attempt=job.attempt,
        failures=job.failures,
        preemptions=job.preemptions,
        cancel_requested=job.cancel_requested,
        pause_requested=job.pause_requested,
        queue_position=waits.position,
        waiting_reason=waits.reason,
        error=schemas.RunError.model_validate(job.error) if job.error else None,
        dataset=schemas.DatasetReference(name=dataset, version=dataset_version),
        model=run.model_name,
        version=version,
        preset=run.preset,
        architecture=in_todays_form(run.architecture),
        training=run.training,
        init_from=run.init_from,
        seed=run.seed,
        priority=job.priority,
        devices=job.devices,
        max_attempts=job.max_attempts,
        timeout_seconds=job.timeout_seconds,
        retry_of=run.retry_of,
        tags=tags,
        description=run.description,
        estimate=run.estimate,
        metrics=metrics,
        created_at=run.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def tags_of(session: Session, run_ids: Sequence[str]) -> dict[str, list[str]]:
    """Run id -> its tags, by name."""
    tags: dict[str, list[str]] = {run_id: [] for run_id in run_ids}
    for run_id, tag in session.execute(_TAGS, {"run_ids": run_ids}):
        tags[run_id].append(tag)
    return tags
