"""Writes events at the end of the transaction that records them, so that their ids ascend in the order of commits.

A sequence of PostgreSQL numbers rows in the order of INSERTs. Of two overlapping transactions, the one with the larger
number may commit first; a reader that has seen it asks for what is newer, and never sees the smaller number. Therefore
`record` only remembers an event in the session. Before the commit, the events are inserted under a lock of their
project, which PostgreSQL releases after the commit is visible. Nothing else is locked after it, so it takes part in no
deadlock. SQLite has one writer at a time.

The order holds within a project. A reader of several projects keeps one position per project.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, event, exists, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from service.shared.database import now
from service.shared.events.tables import DeletedEvents, Event
from service.shared.events.types import TYPES, Resource

MAX_DELETED_AT_ONCE = 1000
SECONDS_PER_DAY = 86_400.0


def record(
    session: Session, project_id: str, type: str, resource: Resource, data: dict[str, Any] | None = None
) -> None:
    """Add an event when the transaction commits. It is dropped with a savepoint that is rolled back.

    data: small, and valid for ever: the resource itself is read at its path.
    """
    if type not in TYPES:
        raise ValueError(f"the event type {type!r} is not in service/shared/events/types.py: add it with its meaning")
    values = {
        "project_id": project_id,
        "type": type,
        "resource_type": resource.type,
        "resource_id": resource.id,
        "data": data or {},
    }
    _Outbox.of(session).pending.append(values)


def delete_old(session: Session, days: float) -> int:
    """Delete events that are older than `days`, at most `MAX_DELETED_AT_ONCE`. Returns their number.

    The newest event of a project stays. `DeletedEvents` tells readers what they have missed.
    """
    newer = aliased(Event)
    is_newest = ~exists().where(newer.project_id == Event.project_id, newer.id > Event.id)
    # Ids ascend about as times do. Looking at the first ids alone needs no index of times, and no scan if none is old.
    oldest = select(Event.id, Event.created_at).where(~is_newest).order_by(Event.id)
    first = oldest.limit(MAX_DELETED_AT_ONCE).subquery()
    old = select(first.c.id).where(first.c.created_at < now(-days * SECONDS_PER_DAY))
    deleted = session.execute(delete(Event).where(Event.id.in_(old)).returning(Event.project_id, Event.id)).all()
    newest: dict[str, int] = {}
    for row in deleted:
        newest[row.project_id] = max(row.id, newest.get(row.project_id, 0))
    if newest:
        _note_deleted(session, newest)
    return len(deleted)


def _note_deleted(session: Session, newest: Mapping[str, int]) -> None:
    """newest: project id -> its newest deleted event."""
    insert_or_update = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = insert_or_update(DeletedEvents)
    new = row.excluded.event_id
    row = row.on_conflict_do_update(
        index_elements=["project_id"], set_={"event_id": new}, where=DeletedEvents.event_id < new
    )
    # in the order of projects: two processes that delete cannot wait for each other
    rows = [{"project_id": project_id, "event_id": id} for project_id, id in sorted(newest.items())]
    session.execute(row, rows)


def remove_some(session: Session, project_id: str, at_most: int) -> bool:
    """Delete some events of a project that is purged. Returns False if it had none."""
    ids = session.scalars(select(Event.id).where(Event.project_id == project_id).limit(at_most)).all()
    session.execute(delete(Event).where(Event.id.in_(ids)))
    session.execute(delete(DeletedEvents).where(DeletedEvents.project_id == project_id))
    return bool(ids)


class _Outbox:
    """The events of one transaction until it commits.

    It listens to the connection, not to the session: the session does not report every savepoint that is rolled back,
    and commits with savepoints open. On the connection, COMMIT is the last statement: everything has been flushed.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.pending: list[dict[str, Any]] = []
        self._before: list[int] = []
        """The number of events before each open savepoint; not of savepoints that began before the first event."""
        event.listen(connection, "commit", self._write)
        event.listen(connection, "rollback", self._clear)
        event.listen(connection, "savepoint", self._begin_savepoint)
        event.listen(connection, "release_savepoint", self._release_savepoint)
        event.listen(connection, "rollback_savepoint", self._roll_back_savepoint)

    @classmethod
    def of(cls, session: Session) -> "_Outbox":
        """The outbox of the current transaction of a session."""
        connection = session.connection()
        outbox = session.info.get(cls)
        if not isinstance(outbox, cls) or outbox.connection is not connection:
            outbox = session.info[cls] = cls(connection)
        return outbox

    def _write(self, connection: Connection) -> None:
        """Insert the events, just before COMMIT."""
        if not self.pending:
            return
        values, self.pending, self._before = self.pending, [], []
        if connection.dialect.name == "postgresql":
            for project_id in sorted({each["project_id"] for each in values}):
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"events {project_id}", 0))))
        connection.execute(insert(Event), values)

    def _clear(self, connection: Connection) -> None:
        self.pending, self._before = [], []

    def _begin_savepoint(self, connection: Connection, name: str | None) -> None:
        self._before.append(len(self.pending))

    def _release_savepoint(self, connection: Connection, name: str, context: None) -> None:
        self._end_savepoint()

    def _roll_back_savepoint(self, connection: Connection, name: str, context: None) -> None:
        del self.pending[self._end_savepoint() :]

    def _end_savepoint(self) -> int:
        """Forget the innermost savepoint. Returns the number of events before it."""
        return self._before.pop() if self._before else 0
