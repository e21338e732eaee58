"""Engine, sessions and the database's clock, the same for SQLite and PostgreSQL."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import DateTime, Dialect, Engine, Select, create_engine, event, make_url, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from service.shared.disk_reserve import Reserve
from service.shared.errors import Unavailable

Row = TypeVar("Row")

# The longest time that a writer waits for the write lock; transactions take milliseconds.
BUSY_SECONDS = 15
# Connections per process to PostgreSQL; further threads wait for one. More connections would not increase throughput.
CONNECTIONS = 8
# Detect an unreachable server within 30 s, on busy and on idle connections; TCP's defaults take 15 minutes.
TIMEOUTS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class Timestamp(TypeDecorator[datetime]):
    """An instant in UTC: TIMESTAMPTZ in PostgreSQL, sortable text in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; SQLite keeps UTC without an offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no time zone, expected an aware datetime")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware times in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class now(FunctionElement[datetime]):  # noqa: N801 named like the SQL function
    """The database's clock, plus an offset in seconds: `now()`, `now(60.0)`.

    All times that are compared with each other use it, so that a wrong clock of a worker has no effect.
    """

    type = Timestamp()
    inherit_cache = True

    def __init__(self, offset_seconds: Any = 0.0) -> None:
        super().__init__(offset_seconds)


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **options: Any) -> str:
    # statement_timestamp() is stable, so that an index can serve `lease_expires_at < now()`.
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **options: Any) -> str:
    # %f has three digits; SQLAlchemy reads the digits after the point as microseconds.
    offset = compiler.process(element.clauses, **options)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', ({offset}) || ' seconds') || '000')"


class Database:
    """The engine and its two kinds of session.

    `with database.writer.begin() as session:` is one transaction that may write. On SQLite it begins with the write
    lock (BEGIN IMMEDIATE), so that it cannot fail later for lack of it. `with database.reader() as session:` reads.
    """

    def __init__(self, url: str, reserve_bytes: int = 0) -> None:
        """reserve_bytes: size of the reserve file beside a SQLite file, for deletions on a full disk."""
        embedded = url.startswith("sqlite")
        self.reserve = Reserve.beside(url, reserve_bytes)
        self._file = make_url(url).database if embedded else None
        self._opened: set[tuple[int, int]] = set()
        self.engine = self._sqlite(url, writes=False) if embedded else _server(url)
        self._writing = self._sqlite(url, writes=True) if embedded else self.engine
        self.writer: sessionmaker[Session] = sessionmaker(self._writing)
        self.reader: sessionmaker[Session] = sessionmaker(self.engine)

    def check(self) -> None:
        """Run a query. Raises SQLAlchemy's errors, and Unavailable if the SQLite file was moved or replaced.

        Open connections still use the moved file, and other processes do not see what they write.
        """
        with self.reader() as session:
            session.execute(select(1))
        if self._file and self._opened and self._opened != {_identity(self._file)}:
            detail = (
                f"the database file {self._file} was moved away or replaced while the process had it open; "
                "put it back, or restart every process"
            )
            raise Unavailable("database_unavailable", detail)

    def answers(self) -> bool:
        """Whether `check` succeeds."""
        try:
            self.check()
        except (SQLAlchemyError, Unavailable):
            return False
        return True

    def close(self) -> None:
        """Close every pooled connection."""
        for engine in (self.engine, self._writing):
            engine.dispose()

    def _sqlite(self, url: str, *, writes: bool) -> Engine:
        """All writing threads share one connection and take turns in order: SQLite's own lock is not fair."""
        single: dict[str, Any] = {
            "poolclass": QueuePool,
            "pool_size": 1,
            "max_overflow": 0,
            "pool_timeout": BUSY_SECONDS,
        }
        arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        engine = create_engine(url, connect_args=arguments, **(single if writes else {}))

        @event.listens_for(engine, "connect")
        def configure(connection: Any, record: Any) -> None:
            if self.reserve is not None:  # the first connection creates the index of the write-ahead log
                self.reserve.release_if_needed()
            connection.isolation_level = None  # `begin` below starts transactions, not the driver
            for pragma in ("journal_mode=WAL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")
            if self._file and (opened := _identity(self._file)) is not None:
                self._opened.add(opened)

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            if writes and self.reserve is not None:
                self.reserve.release_if_needed()
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine


def find_or_add(session: Session, existing: Select[Row], new: Row) -> Row:
    """The row that `existing` selects; if there is none, add `new`. Concurrent callers get the same row.

    The second INSERT waits for the first transaction, violates the unique constraint, and the first row is selected.
    """
    if (row := session.scalar(existing)) is not None:
        return row
    try:
        with session.begin_nested():
            session.add(new)
    except IntegrityError:
        return session.scalars(existing).one()
    return new


def _server(url: str) -> Engine:
    return create_engine(url, pool_pre_ping=True, pool_size=CONNECTIONS, max_overflow=0, connect_args=TIMEOUTS)


def _identity(file: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if it does not exist."""
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
