"""SQL that several transitions share."""

from typing import Any

from sqlalchemy import ColumnElement, Update, case, false, func, update

from service.jobs.operations.queue import Claim
from service.jobs.tables import Job
from service.shared.database import now

MAX_BACKOFF_SECONDS = 600.0
TIMED_OUT = {"code": "timeout", "detail": "it ran for longer than its timeout_seconds"}


def owned(claim: Claim) -> Update:
    """An update of the claimed job that changes nothing once the claim was lost."""
    return (
        update(Job)
        .where(Job.id == claim.job_id, Job.state == "running", Job.attempt == claim.attempt)
        .execution_options(synchronize_session=False)
    )


def without_owner() -> dict[str, Any]:
    """The values of a job that stops running and has not ended."""
    return {"owner": None, "lease_expires_at": None, "phase": None, "eta_seconds": None, "dispatches": 0}


def ended() -> dict[str, Any]:
    """The values of a job that ends."""
    return {"owner": None, "lease_expires_at": None, "phase": None, "eta_seconds": None, "finished_at": now()}


def has_timed_out() -> ColumnElement[bool]:
    """Whether a job runs for longer than its timeout: false, not null, without a timeout or a start."""
    return func.coalesce(Job.started_at < now(-Job.timeout_seconds), false())


def backoff(first_seconds: float) -> Any:
    """`first_seconds`, doubled for every failure so far."""
    doubled = first_seconds * case(
        {n: float(2**n) for n in range(8)},
        value=Job.failures,
        else_=MAX_BACKOFF_SECONDS / max(first_seconds, 1e-9),
    )
    return case((doubled > MAX_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS), else_=doubled)
