"""The jobs of a project that is deleted: all of them are cancelled (T9), and removed when it is purged."""

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.jobs.operations.requests import cancel_all
from service.jobs.tables import FINAL_STATES, Job, JobEvent, JobLog, Worker


def cancel_some(session: Session, project_id: str, at_most: int) -> bool:
    """T9 for some jobs of a project. Returns False if it had none to cancel."""
    # a running job that was asked already is left to its owner, until a worker that shuts down returns it
    asked = Job.cancel_requested & (Job.state == "running")
    query = select(Job.id).where(Job.project_id == project_id, Job.state.not_in(FINAL_STATES), ~asked)
    ids = session.scalars(query.order_by(Job.id).limit(at_most)).all()
    cancel_all(session, ids)
    return bool(ids)


def is_running(session: Session, project_id: str) -> bool:
    """Whether a worker runs a job of a project."""
    running = select(Job.id).where(Job.project_id == project_id, Job.state == "running").limit(1)
    return session.scalar(running) is not None


def remove_some(session: Session, project_id: str, at_most: int) -> bool:
    """Delete some jobs of a project with their events and logs. Returns False if it had none.

    The project is purged: none of its jobs is running, and nothing refers to them any more.
    """
    ended = select(Job.id).where(Job.project_id == project_id, Job.state.in_(FINAL_STATES))
    ids = session.scalars(ended.order_by(Job.id).limit(at_most)).all()
    if not ids:
        return False
    session.execute(update(Worker).where(Worker.job_id.in_(ids)).values(job_id=None))
    for of_job in (JobEvent, JobLog):
        session.execute(delete(of_job).where(of_job.job_id.in_(ids)))
    session.execute(delete(Job).where(Job.id.in_(ids)))
    return True
