"""The database's clock, times in UTC, and serialised writers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import literal, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from service.jobs import operations as jobs
from service.jobs.tables import Job
from service.shared.database import Database, Timestamp, now
from tests.conftest import wait_until


def clock(database: Database, offset_seconds: float = 0.0) -> datetime:
    with database.reader() as session:
        found = session.scalar(select(now(offset_seconds)))
    assert found is not None
    return found


def test_the_clock_is_aware_and_in_utc(database: Database) -> None:
    found = clock(database)
    assert found.tzinfo == UTC
    assert abs(found - datetime.now(UTC)) < timedelta(seconds=5)


def test_the_clock_moves_between_statements_by_less_than_a_second(database: Database) -> None:
    before = clock(database)
    after = wait_until(lambda: later if (later := clock(database)) > before else None)
    assert after - before < timedelta(seconds=1)


@pytest.mark.parametrize("seconds", [60.0, 0.25, -30.0, 86_400.5, 1e-5])
def test_an_offset_is_added_to_the_clock(database: Database, seconds: float) -> None:
    with database.reader() as session:
        plain, shifted = session.execute(select(now(), now(seconds))).one()
    assert (shifted - plain).total_seconds() == pytest.approx(seconds, abs=0.002)


def test_an_offset_may_be_computed_from_a_column(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        jobs.create(session, project_id, "test", "data", priority=7)
    with database.reader() as session:
        plain, shifted = session.execute(select(now(), now(Job.priority * 2.0))).one()
    assert (shifted - plain).total_seconds() == pytest.approx(14, abs=0.002)


def test_stored_times_keep_their_instant_and_microseconds(database: Database, project_id: str) -> None:
    given = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with database.writer.begin() as session:
        job = jobs.create(session, project_id, "test", "data")
        job.not_before = given
        job_id = job.id
    with database.reader() as session:
        kept = session.get_one(Job, job_id).not_before
    assert kept == given
    assert kept.tzinfo == UTC


def test_host_times_and_database_times_compare_in_sql(database: Database) -> None:
    here = datetime.now(UTC)
    with database.reader() as session:
        earlier = literal(here - timedelta(seconds=5), Timestamp()) < now()
        later = literal(here + timedelta(seconds=5), Timestamp()) > now()
        assert session.execute(select(earlier, later)).one() == (True, True)


def test_a_time_without_a_zone_is_refused(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        job = jobs.create(session, project_id, "test", "data")
        job.not_before = datetime(2031, 5, 6)
        with pytest.raises((StatementError, ValueError)):
            session.flush()
        session.rollback()


def test_foreign_keys_are_enforced(database: Database) -> None:
    with database.writer() as session, pytest.raises(IntegrityError):
        jobs.create(session, "prj_none", "test", "data")


def test_a_failed_transaction_leaves_no_rows(database: Database, project_id: str) -> None:
    def fail_half_way() -> None:
        with database.writer.begin() as session:
            jobs.create(session, project_id, "test", "data")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with database.reader() as session:
        assert session.scalars(select(Job)).all() == []


def test_sqlite_writers_that_read_first_take_turns(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.writer.begin() as session:
        session.execute(text("CREATE TABLE counter (n INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))

    def add(_: int) -> None:
        for _ in range(20):
            with database.writer.begin() as session:
                n = session.scalar(text("SELECT n FROM counter"))
                session.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    with database.reader() as session:
        assert session.scalar(text("SELECT n FROM counter")) == 80
    database.close()


def test_a_sqlite_reader_sees_one_state_while_a_writer_commits(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.writer.begin() as session:
        session.execute(text("CREATE TABLE counter (n INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))
    with database.reader() as reading:
        assert reading.scalar(text("SELECT n FROM counter")) == 0
        with database.writer.begin() as session:
            session.execute(text("UPDATE counter SET n = 1"))
        assert reading.scalar(text("SELECT n FROM counter")) == 0
    with database.reader() as reading:
        assert reading.scalar(text("SELECT n FROM counter")) == 1
    database.close()
