"""The histories of runs as a source of the feed. The keys are ids of jobs: a job is seen through its run."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, bindparam, func, select
from sqlalchemy.orm import Session

from service.events.entries import Entry, Filters, frame
from service.events.feed import Source
from service.jobs import history
from service.jobs.tables import FINAL_STATES, Job, JobEvent
from service.runs import schemas

_JOB_IDS: BindParameter[Any] = bindparam("job_ids", expanding=True)
_NEWEST = select(JobEvent.job_id, func.max(JobEvent.id)).where(JobEvent.job_id.in_(_JOB_IDS)).group_by(JobEvent.job_id)
# One query for all jobs: the events of one job are few.
_NEWER = select(JobEvent).where(JobEvent.job_id.in_(_JOB_IDS), JobEvent.id > bindparam("after")).order_by(JobEvent.id)
_LIVING = select(Job.id).where(Job.id.in_(_JOB_IDS), Job.state.not_in(FINAL_STATES))


def _newest(session: Session, job_ids: Collection[str]) -> Mapping[str, int]:
    return dict(session.execute(_NEWEST, {"job_ids": sorted(job_ids)}).all())


def _newer(session: Session, positions: Mapping[str, int]) -> Iterable[tuple[str, Entry]]:
    for event in session.scalars(_NEWER, {"job_ids": sorted(positions), "after": min(positions.values())}):
        if event.id > positions[event.job_id]:
            yield event.job_id, _entry(event)


def _page(session: Session, job_id: str, after: int, size: int, filters: Filters) -> Sequence[Entry]:
    return [_entry(event) for event in history.events(session, job_id, after, size, filters.period)]


def _ended(session: Session, job_ids: Collection[str]) -> Collection[str]:
    return set(job_ids).difference(session.scalars(_LIVING, {"job_ids": sorted(job_ids)}))


RUN_EVENTS = Source(_newest, _newer, _page, _ended)


def _entry(event: JobEvent) -> Entry:
    json = schemas.RunEvent.model_validate(event, from_attributes=True).model_dump_json()
    return Entry(event.id, event.type, "job", event.job_id, event.created_at, frame(event.id, event.type, json))
