"""Tables of projects, API keys, the audit log and answers to repeated requests."""

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
    # When a worker last took a job of this project: equal priorities take projects in turn.
    served_at: Mapped[datetime | None]
    # Whether its administrators may make other projects.
    operates: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Upper limits of its own; null is the installation's.
    most_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    most_queued_runs: Mapped[int | None] = mapped_column(BigInteger)
    most_running_runs: Mapped[int | None] = mapped_column(BigInteger)
    most_request_rows: Mapped[int | None] = mapped_column(BigInteger)
    most_requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now())


class ApiKey(Table):
    """A key of a project; only the hash of its secret is kept."""

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
    """Something that a key has done. Triggers in the database refuse to change or delete any."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    # Null for the command line.
    key_id: Mapped[str | None]
    # The operation id of the API, or the command.
    action: Mapped[str]
    resource: Mapped[str] = mapped_column(Text)
    # Ids of the rows that came to be.
    made: Mapped[list[Any]]
    request_id: Mapped[str | None]
    client: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "project_id", "id"),)


class IdempotencyKey(Table):
    """The answer to a request that may be sent again, kept with what the request made."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    # Of method, path, query and body: the same key must not be used for something else.
    fingerprint: Mapped[str] = mapped_column(String(64))
    answer: Mapped[dict[str, Any]] = mapped_column(JSON())  # as it was written, unlike JSONB
    created_at: Mapped[datetime] = mapped_column(default=now(), index=True)
