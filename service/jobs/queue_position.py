"""The position of a queued job, and the reason why a job is not running."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import String, bindparam, func, select
from sqlalchemy.orm import Session, aliased

from service.jobs import live_workers
from service.jobs.tables import Job, Worker
from service.shared.database import now

_IDS = bindparam("ids", type_=String(), expanding=True)
_QUEUES = bindparam("queues", type_=String(), expanding=True)
_POSITION = func.row_number().over(partition_by=Job.queue, order_by=(Job.priority.desc(), Job.id))
_QUEUED = (
    select(Job.id, _POSITION.label("position"), (Job.not_before > now()).label("backs_off"))
    .where(Job.queue.in_(_QUEUES), Job.state == "queued")
    .subquery()
)
_AHEAD = aliased(Job)
_IN_SAME_QUEUE = select(func.count()).where(_AHEAD.queue == Job.queue, _AHEAD.state == "queued")
_BEFORE_IT = (
    _IN_SAME_QUEUE.where(_AHEAD.priority > Job.priority).scalar_subquery()
    + _IN_SAME_QUEUE.where(_AHEAD.priority == Job.priority, _AHEAD.id < Job.id).scalar_subquery()
)
# Built once: clients poll a run, and building the statement takes longer than its execution.
_PLACES = select(_QUEUED).where(_QUEUED.c.id.in_(_IDS))
# For one job: counts in the index instead of numbers for the whole queue, which take ten times as long.
_PLACE = select(Job.id, _BEFORE_IT + 1, Job.not_before > now()).where(Job.id.in_(_IDS), Job.state == "queued")


class Wait(NamedTuple):
    """position: 1 for the next job of its queue. reason: why the job is not running, for people."""

    position: int | None = None
    reason: str | None = None


def find(session: Session, jobs: Sequence[Job]) -> dict[str, Wait]:
    """The waits of jobs by id, with two queries; an empty Wait for a job that is running or has ended."""
    waits = {job.id: Wait(reason="it is paused") if job.state == "paused" else Wait() for job in jobs}
    queued = [job for job in jobs if job.state == "queued"]
    if not queued:
        return waits
    parameters = {"ids": [job.id for job in queued], "queues": sorted({job.queue for job in queued})}
    found = session.execute(_PLACE if len(queued) == 1 else _PLACES, parameters)
    places = {job_id: (position, backs_off) for job_id, position, backs_off in found}
    alive = [worker for worker, _ in live_workers.alive(session)]
    for job in queued:
        position, backs_off = places.get(job.id, (None, False))  # a worker may have claimed it meanwhile
        waits[job.id] = Wait(position, job.waiting_reason or (_back_off(job) if backs_off else _turn(alive, job)))
    return waits


def _back_off(job: Job) -> str:
    return f"attempt {job.attempt} failed, the next one starts after {job.not_before.isoformat()}"


def _turn(workers: Sequence[Worker], job: Job) -> str:
    alive = [worker for worker in workers if worker.queue == job.queue]
    if not alive:
        return f"no {job.queue} worker is alive"
    if all(len(worker.devices) < job.devices for worker in alive):
        max_devices = max(len(worker.devices) for worker in alive)
        return f"it needs {job.devices} devices, and no {job.queue} worker has more than {max_devices}"
    busy = sum(worker.job_id is not None for worker in alive)
    return f"{busy} of {len(alive)} {job.queue} workers are busy"
