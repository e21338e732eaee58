"""Lists of runs: filters, and pages that take as long behind 100,000 runs as at their beginning."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session
from ulid import ULID

from service.datasets.tables import Dataset, DatasetVersion
from service.jobs.tables import Job
from service.runs.tables import Run, RunTag


@dataclass(frozen=True)
class Filters:
    """Which runs: in any of the states, with all of the tags, of a dataset, of a model, made in a time."""

    states: Sequence[str] = ()
    tags: Sequence[str] = ()
    dataset: str | None = None
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


def page(session: Session, project_id: str, filters: Filters, after: str | None, size: int) -> list[str]:
    """The ids of the jobs of at most `size` runs, newest first, behind the job `after`.

    Ids sort by time, so that an index serves order, paging and times alike. A state is looked up in an index of its
    own, one state after the other: a few failed runs among many succeeded ones are found at once.
    """
    if not filters.states:
        return list(session.scalars(_of_runs(project_id, filters, after).limit(size)))
    # each state's newest, of which the newest of all are among
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
        .where(Job.project_id == project_id, Job.kind == "train", Job.state == state, *_narrow(Job.id, filters, after))
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
    """The smallest id of a moment."""
    return ULID(int(time.timestamp() * 1000).to_bytes(6, "big") + bytes(10))
