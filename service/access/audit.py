"""The audit log: one event per change, with its time and API key, recorded in the transaction of the change.

Routes do not call this module. While a request that may change data is served, `acting` holds its action, and the
first transaction that commits records it.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import event, literal, select, tuple_
from sqlalchemy.orm import Session, sessionmaker

from service.access.tables import AuditEvent, Project
from service.shared.errors import Unauthenticated
from service.shared.period import ANY_TIME, Period


@dataclass
class Action:
    """The change that a request or a command makes. made: ids of the rows that it adds.

    `recorded` is a field of this shared object, because threads and background tasks have copies of `acting`.
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
    """Conditions for the events of a list."""

    action: str | None = None
    key_id: str | None = None
    period: Period = ANY_TIME


class Place(NamedTuple):
    """An event in the order of a list."""

    created_at: datetime
    id: int

    def key(self) -> str:
        """This place as text."""
        return f"{self.created_at.isoformat()} {self.id}"

    @classmethod
    def of(cls, key: str) -> "Place":
        """The place of a text that `key` made."""
        created_at, id = key.split(" ")
        return cls(datetime.fromisoformat(created_at), int(id))


acting: ContextVar[Action | None] = ContextVar("acting", default=None)


def attach(writer: sessionmaker[Session]) -> None:
    """Record the current action in the transactions of this writer."""
    event.listen(writer, "after_flush", _collect_new_ids)
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


def record_in(session: Session, project_id: str) -> None:
    """Record the current action in another project too, which it changes. For an own project, nothing is added."""
    if (action := acting.get()) is not None and action.project_id != project_id:
        record(session, replace(action, project_id=project_id, client=None))


def skip() -> None:
    """Record no event for a request that changes nothing, such as a repeated one."""
    if (action := acting.get()) is not None:
        action.recorded = True


def list_events(
    session: Session, project_id: str, filters: Filters, after: Place | None, size: int
) -> Sequence[AuditEvent]:
    """A project's events, newest first: one index has the order, the page and the period."""
    query = select(AuditEvent).where(AuditEvent.project_id == project_id, *filters.period.of(AuditEvent.created_at))
    query = query.order_by(AuditEvent.created_at.desc(), AuditEvent.id.desc()).limit(size)
    if filters.action is not None:
        query = query.where(AuditEvent.action == filters.action)
    if filters.key_id is not None:
        query = query.where(AuditEvent.key_id == filters.key_id)
    if after is not None:
        last = tuple_(literal(after.created_at, AuditEvent.created_at.type), literal(after.id))
        query = query.where(tuple_(AuditEvent.created_at, AuditEvent.id) < last)
    return session.scalars(query).all()


def _collect_new_ids(session: Session, context: Any) -> None:
    if (action := acting.get()) is not None:
        action.made += [row.id for row in session.new if isinstance(getattr(row, "id", None), str)]


def _record_current(session: Session) -> None:
    # SQLAlchemy calls this for a savepoint too. The rows after the savepoint would be missing in `made`.
    if session.in_nested_transaction():
        return
    if (action := acting.get()) is not None and not action.recorded:
        session.flush()
        if session.scalar(select(Project.deleted_at).where(Project.id == action.project_id)) is not None:
            detail = "the project of the API key was deleted while the request was served: nothing was changed"
            raise Unauthenticated("invalid_api_key", detail)
        action.recorded = True  # one event per request, even if its background task commits later
        record(session, action)
