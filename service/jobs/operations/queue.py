"""A job enters its queue (T1), and a worker takes it (T3)."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, Select, SQLColumnExpression, case, func, literal, or_, select, update
from sqlalchemy.orm import Session, aliased

from service.access import operations as access
from service.access.tables import Project
from service.jobs.history import record_event
from service.jobs.operations.announcing import ANNOUNCED, announce
from service.jobs.tables import Job
from service.shared import telemetry
from service.shared.database import now
from service.shared.events import Resource
from service.shared.table_base import new_id

# A queued job is announced again after 30 s at first; see `recovery.due`.
FIRST_WAKE_SECONDS = 30.0


@dataclass(frozen=True)
class Claim:
    """What a worker got: the job, and the attempt that fences its writes."""

    job_id: str
    project_id: str
    kind: str
    attempt: int
    request_id: str | None = None


class RunningLimit(NamedTuple):
    """How many jobs of one kind a project may have running: its own figure, else the default. None is no limit."""

    kind: str
    own: SQLColumnExpression[int | None]
    """The column of `Project` that has the figure."""
    default: int | None


def create(
    session: Session,
    project_id: str,
    kind: str,
    queue: str,
    priority: int = 0,
    max_attempts: int = 3,
    timeout_seconds: float | None = None,
    devices: int = 1,
    resource: Resource | None = None,
) -> Job:
    """T1: a new queued job. The caller commits, and only then wakes a worker.

    timeout_seconds: from the first start to the end. Pauses and the wait for another attempt count.
    resource: what users see of the job, which its events are about.
    """
    job = Job(
        id=new_id("job"),
        project_id=project_id,
        kind=kind,
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        timeout_seconds=timeout_seconds,
        devices=devices,
        resource_type=resource and resource.type,
        resource_id=resource and resource.id,
        dispatches=1,
        request_id=telemetry.serving.get(),
        dispatch_after=now(FIRST_WAKE_SECONDS),
    )
    session.add(job)
    session.flush()
    record_event(session, job.id, 0, "info", "queued", f"queued for a {queue} worker")
    announce(session, job, "queued")
    return job


def queued_count(session: Session, project_id: str, kind: str) -> int:
    """The number of queued jobs of one kind that a project has."""
    queued = select(func.count()).where(Job.project_id == project_id, Job.kind == kind, Job.state == "queued")
    return session.scalar(queued) or 0


def running_count(session: Session, project_id: str, kind: str) -> int:
    """The number of running jobs of one kind that a project has."""
    return session.scalar(_count_running(project_id, kind)) or 0


def claim(
    session: Session,
    queue: str,
    owner: str,
    lease_seconds: float,
    devices: int = 1,
    limit: RunningLimit | None = None,
) -> Claim | None:
    """T3: take the first job of a queue that needs no more devices than the owner has. None when nothing is due.

    The order is: highest priority; then the project that has waited longest for a worker to take one of its jobs; then
    its oldest job. A job that would exceed the limit is passed over, and so are those of deleted projects. On
    PostgreSQL, rows that another worker is taking are skipped. On SQLite the write lock makes claims take turns.
    """
    first = (
        select(Job.id)
        .join(Project, Project.id == Job.project_id)
        .where(Job.queue == queue, Job.state == "queued", Job.not_before <= now(), Job.devices <= devices)
        .where(Project.deleted_at.is_(None))
        .order_by(Job.priority.desc(), Project.served_at.asc().nulls_first(), Job.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=Job)
    )
    if limit is not None:
        allowed = func.coalesce(limit.own, literal(limit.default, BigInteger()))
        running = _count_running(Project.id, limit.kind).scalar_subquery()
        first = first.where(or_(allowed.is_(None), Job.kind != limit.kind, running < allowed))
    taking = session.begin_nested()
    row = session.execute(
        update(Job)
        .where(Job.id == first.scalar_subquery(), Job.state == "queued")
        .values(
            state="running",
            attempt=Job.attempt + 1,
            owner=owner,
            lease_expires_at=now(lease_seconds),
            started_at=case((Job.started_at.is_(None), now()), else_=Job.started_at),
            phase="starting",
            progress=0.0,
            eta_seconds=None,
            error=None,
            waiting_reason=None,
        )
        .returning(Job.id, Job.kind, Job.request_id, *ANNOUNCED)
    ).one_or_none()
    if row is None:
        return None
    # This locks the project: of workers that claim its jobs at the same time, the later ones count the earlier ones'.
    access.note_served(session, row.project_id)
    if limit is not None and limit.kind == row.kind and _exceeds(session, row.project_id, limit):
        taking.rollback()
        return None
    record_event(session, row.id, row.attempt, "info", "started", f"attempt {row.attempt} started by {owner}")
    announce(session, row, "started")
    return Claim(row.id, row.project_id, row.kind, row.attempt, row.request_id)


def _exceeds(session: Session, project_id: str, limit: RunningLimit) -> bool:
    """Whether a project has more jobs running than it may."""
    own = session.scalar(select(limit.own).where(Project.id == project_id))
    allowed = limit.default if own is None else own
    if allowed is None:
        return False
    return running_count(session, project_id, limit.kind) > allowed


def _count_running(project_id: SQLColumnExpression[str] | str, kind: str) -> Select[int]:
    other = aliased(Job)
    return select(func.count()).where(other.project_id == project_id, other.kind == kind, other.state == "running")
