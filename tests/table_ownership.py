"""Watches every write of the tests: a domain changes its own tables only, `service.jobs.operations` alone changes jobs.

`watch` listens to what SQLAlchemy does in this process: columns that are set, and statements that insert, update or
delete. The innermost module of `service` or `worker` on the stack is the one that writes.
"""

import sys
from functools import partial
from types import FrameType
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session

from service.jobs.tables import Job
from service.shared.table_base import Table
from service.tables import DOMAINS

OURS = ("service", "worker", "tests", "benchmarks")
found: list[str] = []
"""Every write by a module that does not own the table."""


def watch() -> None:
    """Check all writes from now on."""
    assert DOMAINS  # all tables are imported
    for mapper in Table.registry.mappers:
        for column in mapper.column_attrs:
            event.listen(getattr(mapper.class_, column.key), "set", partial(_set, mapper.class_), raw=True)
    event.listen(Session, "do_orm_execute", _execute)


def owner(table: type[Table]) -> str:
    """The package whose modules may write a table."""
    return "service.jobs.operations" if table is Job else table.__module__.removesuffix(".tables")


def _set(table: type[Table], *_: Any) -> None:
    _check(table, "sets a column of")


def _execute(state: ORMExecuteState) -> None:
    if state.bind_mapper is not None and (state.is_insert or state.is_update or state.is_delete):
        _check(state.bind_mapper.class_, "inserts, updates or deletes rows of")


def _check(table: type[Table], does: str) -> None:
    writer = _writer()
    if writer is None or writer.partition(".")[0] in ("tests", "benchmarks"):
        return
    if not f"{writer}.".startswith(f"{owner(table)}."):
        found.append(f"{writer} {does} {table.__name__}, which {owner(table)} owns")


def _writer() -> str | None:
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in OURS and name not in ("service.shared.database", __name__):
            return name
        frame = frame.f_back
    return None
