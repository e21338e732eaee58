"""Reads runs: one, or a page of a list. The last page of 100,000 runs is as fast as the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session
from ulid import ULID

from models.config import in_todays_form
from service.datasets.tables import Dataset, DatasetVersion
from service.jobs import queue_position
from service.jobs.queue_position import Wait
from service.jobs.tables import Job
from service.registry.schemas import Evaluation
from service.registry.tables import ModelVersion
from service.runs import schemas
from service.runs.tables import Run, RunProgress, RunTag
from service.shared.errors import NotFound

KIND = "train"
"""The kind of the jobs of runs."""

RunRow = tuple[Run, Job, str, int, int | None, dict[str, Any] | None]

# Built once: clients poll runs, and building the statement takes longer than running it.
_RUNS: Select[*RunRow] = (
    select(Run, Job, Dataset.name, DatasetVersion.version, ModelVersion.version, RunProgress.metrics)
    .join(Job, Job.id == Run.job_id)
    .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
    .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    .outerjoin(ModelVersion, ModelVersion.run_id == Run.id)
    .outerjoin(RunProgress, RunProgress.run_id == Run.id)
)
_ASKED_FOR = (Run.project_id == bindparam("project_id"), Run.id == bindparam("run_id"))
_RUN = _RUNS.where(*_ASKED_FOR)
_JOB_ID = select(Run.job_id).where(*_ASKED_FOR)
_TAGS = (
    select(RunTag.run_id, RunTag.tag)
    .where(RunTag.run_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(RunTag.tag)
)


@dataclass(frozen=True)
class Filters:
    """Selects runs that are in any of the states, have all of the tags, and match every other filter."""

    states: Sequence[str] = ()
    tags: Sequence[str] = ()
    dataset: str | None = None
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


def get(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """One run with its position in the queue. Raises NotFound."""
    row = session.execute(_RUN, {"project_id": project_id, "run_id": run_id}).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return _described(row, tags_of(session, [run_id])[run_id], queue_position.find(session, [row[1]])[row[1].id])


def list_runs(
    session: Session, project_id: str, filters: Filters, after: str | None, size: int
) -> list[tuple[str, schemas.Run]]:
    """Runs older than the job `after`, newest first, each with the id of its job: the key of the next page."""
    job_ids = _page(session, project_id, filters, after, size)
    return list(zip(job_ids, describe(session, job_ids), strict=True))


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
    waits = queue_position.find(session, [row[1] for row in rows.values()])
    return [_described(rows[job_id], tags[rows[job_id][0].id], waits[job_id]) for job_id in job_ids]


def _described(row: Row[*RunRow], tags: list[str], waits: Wait) -> schemas.Run:
    run, job, dataset, dataset_version, version, newest = row
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
        metrics=dict(newest or {}),
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


def _page(session: Session, project_id: str, filters: Filters, after: str | None, size: int) -> list[str]:
    """The job ids of at most `size` runs that are older than the job `after`, newest first.

    Ids sort by time, so one index gives order, pages and times. Each state is looked up on its own in an index: a few
    failed runs among many succeeded ones are found without reading the others.
    """
    if not filters.states:
        return list(session.scalars(_of_runs(project_id, filters, after).limit(size)))
    # the newest of all states are among the newest of each
    each = [
        select(_in_state(project_id, filters, after, state).limit(size).subquery().c.job_id) for state in filters.states
    ]
    newest = union_all(*each).subquery()
    return list(session.scalars(select(newest.c.job_id).order_by(newest.c.job_id.desc()).limit(size)))


def _of_runs(project_id: str, filters: Filters, after: str | None) -> Select[str]:
    query = select(Run.job_id).where(Run.project_id == project_id, *_narrow(Run.job_id, filters, after))
    return _matching(query, filters).order_by(Run.job_id.desc())


def _in_state(project_id: str, filters: Filters, after: str | None, state: str) -> Select[str]:
    query = (
        select(Job.id.label("job_id"))
        .join(Run, Run.job_id == Job.id)
        .where(Job.project_id == project_id, Job.kind == KIND, Job.state == state, *_narrow(Job.id, filters, after))
    )
    return _matching(query, filters).order_by(Job.id.desc())


def _matching(query: Select[str], filters: Filters) -> Select[str]:
    if filters.model is not None:
        query = query.where(Run.model_name == filters.model)
    if filters.dataset is not None:
        versions = (
            select(DatasetVersion.id)
            .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
            .where(Dataset.name == filters.dataset, Dataset.project_id == Run.project_id)
        )
        query = query.where(Run.dataset_version_id.in_(versions))
    for tag in filters.tags:
        query = query.where(select(RunTag.tag).where(RunTag.run_id == Run.id, RunTag.tag == tag).exists())
    return query


def _narrow(column: InstrumentedAttribute[str], filters: Filters, after: str | None) -> list[ColumnElement[bool]]:
    conditions = []
    if after is not None:
        conditions.append(column < after)
    if filters.created_after is not None:
        conditions.append(column >= f"job_{_first_of(filters.created_after)}")
    if filters.created_before is not None:
        conditions.append(column < f"job_{_first_of(filters.created_before)}")
    return conditions


def _first_of(time: datetime) -> ULID:
    """The smallest id of a time."""
    return ULID(int(time.timestamp() * 1000).to_bytes(6, "big") + bytes(10))
