"""Who did what when, from which key: written in the transaction that did it, and never changed.

A route says nothing of it. While a request that may change something is served, `acting` says who acts, and whatever
transaction commits then takes the event along.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import event, select
from sqlalchemy.orm import Session, sessionmaker

from service.access.tables import AuditEvent


@dataclass
class Action:
    """What a request, or a command, is about to do. `made` are the ids of the rows that it added.

    `recorded` is told by the object, not by the context variable: threads and background tasks have copies of that.
    """

    project_id: str
    key_id: str | None
    action: str
    resource: str
    request_id: str | None = None
    client: str | None = None
    made: list[str] = field(default_factory=list)
    recorded: bool = False


class Filters(NamedTuple):
    """Which events are asked for."""

    action: str | None = None
    key_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


acting: ContextVar[Action | None] = ContextVar("acting", default=None)


def attach(writer: sessionmaker[Session]) -> None:
    """Have every transaction of this writer record its action."""
    event.listen(writer, "after_flush", _remember_what_was_made)
    event.listen(writer, "before_commit", _record_current)


def record(session: Session, action: Action) -> None:
    """Add an event."""
    session.add(
        AuditEvent(
            project_id=action.project_id,
            key_id=action.key_id,
            action=action.action,
            resource=action.resource[:2000],
            made=action.made[:100],
            request_id=action.request_id,
            client=action.client,
        )
    )


def nothing_to_record() -> None:
    """Of a request that changes nothing after all, such as one that is answered again."""
    if (action := acting.get()) is not None:
        action.recorded = True


def list_events(
    session: Session, project_id: str, filters: Filters, after: int | None, size: int
) -> Sequence[AuditEvent]:
    """A project's events, newest first."""
    query = select(AuditEvent).where(AuditEvent.project_id == project_id).order_by(AuditEvent.id.desc()).limit(size)
    if filters.action is not None:
        query = query.where(AuditEvent.action == filters.action)
    if filters.key_id is not None:
        query = query.where(AuditEvent.key_id == filters.key_id)
    if filters.since is not None:
        query = query.where(AuditEvent.created_at >= filters.since)
    if filters.until is not None:
        query = query.where(AuditEvent.created_at < filters.until)
    if after is not None:
        query = query.where(AuditEvent.id < after)
    return session.scalars(query).all()


def _remember_what_was_made(session: Session, context: Any) -> None:
    if (action := acting.get()) is not None:
        action.made += [row.id for row in session.new if isinstance(getattr(row, "id", None), str)]


def _record_current(session: Session) -> None:
    # SQLAlchemy calls this for a savepoint too: the rows that follow it would be missing in `made`.
    if session.in_nested_transaction():
        return
    if (action := acting.get()) is not None and not action.recorded:
        session.flush()
        action.recorded = True  # one event a request, whatever a background task of it commits later
        record(session, action)
