"""The table of events, and up to which event they were deleted."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.table_base import Serial, Table


class Event(Table):
    """A change of a resource of a project. Within a project, ids ascend in the order of commits."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    # No foreign key: its check would lock the row of the project after the lock of its events.
    project_id: Mapped[str]
    type: Mapped[str] = mapped_column(String(60))
    resource_type: Mapped[str] = mapped_column(String(40))
    resource_id: Mapped[str] = mapped_column(String(255))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())

    # AUTOINCREMENT: SQLite would use the ids of deleted last rows again, and a reader that resumes would miss events.
    __table_args__ = (Index(None, "project_id", "id"), {"sqlite_autoincrement": True})


class DeletedEvents(Table):
    """The newest event of a project that was deleted by its age: a reader that has not seen it has missed some."""

    __tablename__ = "deleted_events"

    project_id: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(BigInteger)
