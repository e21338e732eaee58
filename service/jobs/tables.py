"""Tables of jobs, their events and logs, and of workers."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.table_base import Serial, Table

STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
FINAL_STATES = ("succeeded", "failed", "cancelled")


class Job(Table):
    """A piece of work for a worker that must not be lost. Only `service.jobs.operations` changes its state."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str] = mapped_column(String(20))
    queue: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), default="queued")
    priority: Mapped[int] = mapped_column(default=0)
    devices: Mapped[int] = mapped_column(default=1)
    # The fencing token: every claim increments it, and an owner writes only if it still has the current value.
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    failures: Mapped[int] = mapped_column(default=0)
    preemptions: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    not_before: Mapped[datetime] = mapped_column(default=now())
    dispatch_after: Mapped[datetime] = mapped_column(default=now())
    dispatches: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    pause_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    timeout_seconds: Mapped[float | None]
    phase: Mapped[str | None] = mapped_column(String(40))
    progress: Mapped[float] = mapped_column(default=0.0)
    eta_seconds: Mapped[float | None]
    waiting_reason: Mapped[str | None]
    # What the job belongs to, as in events: `run` and its id, or `dataset_version` and `NAME/3`. Null: no events.
    resource_type: Mapped[str | None] = mapped_column(String(40))
    resource_id: Mapped[str | None] = mapped_column(String(255))
    # The request that created the job, for log lines.
    request_id: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint(
            "state <> 'running' OR (owner IS NOT NULL AND lease_expires_at IS NOT NULL)", name="running_is_leased"
        ),
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress"),
        Index(None, "project_id", "created_at"),
        # The claim (T3), the wake-up (T2) and the reaper (T8) each read a few rows of a table that only grows.
        Index("ix_jobs_claim", "queue", "state", "priority", "id"),
        Index("ix_jobs_dispatch", "state", "dispatch_after"),
        Index("ix_jobs_lease", "state", "lease_expires_at"),
        # Lists of a project's jobs in some states, newest first.
        Index("ix_jobs_listed", "project_id", "kind", "state", "id"),
    )


class JobEvent(Table):
    """An event of a job."""

    __tablename__ = "job_events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    level: Mapped[str] = mapped_column(String(10))
    type: Mapped[str] = mapped_column(String(40))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "job_id", "id"),)


class JobLog(Table):
    """A piece of an attempt's standard error."""

    __tablename__ = "job_logs"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "job_id", "id"),)


class Worker(Table):
    """A worker process: its host, queue and devices, and its last heartbeat."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    queue: Mapped[str] = mapped_column(String(20))
    devices: Mapped[list[Any]]
    versions: Mapped[dict[str, Any]]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    started_at: Mapped[datetime] = mapped_column(default=now())
    heartbeat_at: Mapped[datetime] = mapped_column(default=now(), index=True)
    stopped_at: Mapped[datetime | None]
