"""Where a queued job stands, and why a job is not running yet, for people."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import String, bindparam, func, select
from sqlalchemy.orm import Session

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
# Made once: who waits for a run polls it, and to put a statement together takes longer than to run it.
_PLACES = select(_QUEUED).where(_QUEUED.c.id.in_(_IDS))


class Wait(NamedTuple):
    """How many jobs of its queue are before a queued job, itself counted, and why a job is not running."""

    position: int | None = None
    reason: str | None = None


def find(session: Session, jobs: Sequence[Job]) -> dict[str, Wait]:
    """What each of some jobs waits for, by id; nothing when it is running, or has ended. Two queries for all."""
    found = {job.id: Wait(reason="it is paused") if job.state == "paused" else Wait() for job in jobs}
    queued = [job for job in jobs if job.state == "queued"]
    if not queued:
        return found
    given = {"ids": [job.id for job in queued], "queues": sorted({job.queue for job in queued})}
    places = {job_id: (position, backs_off) for job_id, position, backs_off in session.execute(_PLACES, given)}
    alive = [worker for worker, _ in live_workers.alive(session)]
    for job in queued:
        position, backs_off = places.get(job.id, (None, False))  # a worker may have taken it just now
        found[job.id] = Wait(position, job.waiting_reason or (_back_off(job) if backs_off else _turn(alive, job)))
    return found


def _back_off(job: Job) -> str:
    return f"attempt {job.attempt} failed, the next one waits until {job.not_before.isoformat()}"


def _turn(everybody: Sequence[Worker], job: Job) -> str:
    alive = [worker for worker in everybody if worker.queue == job.queue]
    if not alive:
        return f"no {job.queue} worker is alive"
    if all(len(worker.devices) < job.devices for worker in alive):
        most = max(len(worker.devices) for worker in alive)
        return f"it needs {job.devices} devices, and no {job.queue} worker has more than {most}"
    busy = sum(worker.job_id is not None for worker in alive)
    return f"{busy} of {len(alive)} {job.queue} workers are at work, and it takes its turn"
