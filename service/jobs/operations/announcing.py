"""A transition of a job is an event of its resource: `run.started`, `dataset_version.failed`."""

from typing import Any

from sqlalchemy.orm import Session

from service.jobs.tables import Job
from service.shared import events
from service.shared.events import Resource

ANNOUNCED = (Job.project_id, Job.resource_type, Job.resource_id, Job.attempt)
"""The columns that a transition returns for `announce`."""
VERBS = {"queued": "requeued", "paused": "paused", "failed": "failed", "cancelled": "cancelled"}
"""The verb of a job that stops running, by its new state."""


def announce(session: Session, job: Any, verb: str, data: dict[str, Any] | None = None) -> None:
    """Record the event of a transition. job: a row with the columns ANNOUNCED, or a `Job`.

    A job without a resource has no events.
    """
    if job.resource_type is not None:
        resource = Resource(job.resource_type, job.resource_id)
        data = {"attempt": job.attempt, **(data or {})}
        events.record(session, job.project_id, f"{job.resource_type}.{verb}", resource, data)


def brief(error: dict[str, Any]) -> dict[str, Any]:
    """The error of an attempt as events have it: without the single faults, of which there may be many."""
    return {"error": {"code": error["code"], "detail": error["detail"]}}
