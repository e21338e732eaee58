"""Why a job is not running yet, and where it stands in its queue, for people."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.jobs import workers
from service.shared.database import now
from service.shared.tables import Job


def position(session: Session, job: Job) -> int | None:
    """How many jobs of its queue come before a queued job, and itself; None when it does not wait."""
    if job.state != "queued":
        return None
    ahead = select(func.count()).where(
        Job.queue == job.queue,
        Job.state == "queued",
        (Job.priority > job.priority) | ((Job.priority == job.priority) & (Job.id <= job.id)),
    )
    return session.scalar(ahead)


def reason(session: Session, job: Job) -> str | None:
    """Why a job is not running, for people; None for one that is, or has ended."""
    if job.state == "paused":
        return "it is paused"
    if job.state != "queued":
        return None
    if session.scalar(select(Job.not_before > now()).where(Job.id == job.id)):
        return f"attempt {job.attempt} failed, the next one waits until {job.not_before.isoformat()}"
    alive = [worker for worker, _ in workers.alive(session) if worker.queue == job.queue]
    if not alive:
        return f"no {job.queue} worker is alive"
    if all(len(worker.devices) < job.devices for worker in alive):
        most = max(len(worker.devices) for worker in alive)
        return f"it needs {job.devices} devices, and no {job.queue} worker has more than {most}"
    busy = sum(worker.job_id is not None for worker in alive)
    return f"{busy} of {len(alive)} {job.queue} workers are at work, and it takes its turn"
