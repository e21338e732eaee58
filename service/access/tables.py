"""Tables of projects, API keys, audit events and idempotency keys."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.table_base import Serial, Table


class Project(Table):
    """The tenant that owns everything else."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    # The last time a worker claimed a job of this project: among equal priorities, projects take turns.
    served_at: Mapped[datetime | None]
    # Whether admin keys of this project may create other projects.
    operates: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Quotas of this project; null uses the installation's.
    max_stored_bytes: Mapped[int | None] = mapped_column("most_stored_bytes", BigInteger)
    max_queued_runs: Mapped[int | None] = mapped_column("most_queued_runs", BigInteger)
    max_running_runs: Mapped[int | None] = mapped_column("most_running_runs", BigInteger)
    max_request_rows: Mapped[int | None] = mapped_column("most_request_rows", BigInteger)
    max_requests_per_minute: Mapped[int | None] = mapped_column("most_requests_per_minute", BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now())
    # Then its keys are refused, and workers take none of its jobs.
    deleted_at: Mapped[datetime | None]
    # Then its data is removed, and its name is its id. The row stays for its audit events.
    purged_at: Mapped[datetime | None]


class ApiKey(Table):
    """An API key of a project; only the hash of its secret is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditEvent(Table):
    """One change made with an API key. Triggers in the database refuse updates and deletions."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    # Null for a command line.
    key_id: Mapped[str | None]
    # The operation id of the API, or the command.
    action: Mapped[str]
    resource: Mapped[str] = mapped_column(Text)
    # Ids of the created rows.
    made: Mapped[list[Any]]
    request_id: Mapped[str | None]
    client: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index("ix_audit_events_listed", "project_id", "created_at", "id"),)


class IdempotencyKey(Table):
    """The response of a request with an idempotency key, written with the rows of the request."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    # Hash of method, path, query and body: a key must not be reused for another request.
    fingerprint: Mapped[str] = mapped_column(String(64))
    answer: Mapped[dict[str, Any]] = mapped_column(JSON())  # JSON keeps the order of keys, unlike JSONB
    created_at: Mapped[datetime] = mapped_column(default=now(), index=True)
