"""The outbox on both databases: numbers in the order of commits, no event without its change, none used again."""

import gc
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.event import listen
from sqlalchemy.event.registry import _key_to_collection
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from service.access.tables import Project
from service.shared import events
from service.shared.database import Database, now
from service.shared.events import Event, Resource, outbox
from tests import schema

PATIENCE_SECONDS = 60


def record(session: Session, name: str, project_id: str = "prj_1") -> None:
    events.record(session, project_id, "upload.created", Resource("upload", name))


def names(database: Database, after: int = 0, project_id: str = "prj_1") -> list[str]:
    return [event.resource_id for event in read(database, after, project_id)]


def read(database: Database, after: int = 0, project_id: str = "prj_1") -> list[Event]:
    """What a reader gets that has seen the event `after`."""
    newer = select(Event).where(Event.project_id == project_id, Event.id > after).order_by(Event.id)
    with database.reader() as session:
        return list(session.scalars(newer))


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    yield from installed(sqlite_url)


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Database]:
    yield from installed(postgresql_url)


def installed(url: str) -> Iterator[Database]:
    schema.install(url)
    database = Database(url)
    yield database
    database.close()


@contextmanager
def overlapping(database: Database) -> Iterator[Callable[[], None]]:
    """A transaction in a thread, which has recorded `first` and has not committed. The answer makes it commit."""
    recorded, may_commit = Flag(), Flag()

    def first() -> None:
        with database.writer.begin() as session:
            record(session, "first")
            recorded.set()
            assert may_commit.wait(PATIENCE_SECONDS)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(first)

        def commit() -> None:
            may_commit.set()
            done.result()

        try:
            assert recorded.wait(PATIENCE_SECONDS)
            yield commit
        finally:
            may_commit.set()


def test_an_event_that_commits_later_has_a_larger_number(postgresql: Database) -> None:
    """Transaction 1 records an event, transaction 2 records one and commits first, then transaction 1 commits.

    A plain sequence numbers in the order of INSERTs: 1 draws 7, 2 draws 8 and commits. A reader sees 8, and asks for
    what is larger than 8 from then on. 1 commits its 7, which this reader never sees.
    """
    with overlapping(postgresql) as commit_first:
        with postgresql.writer.begin() as session:
            record(session, "second")
        seen = read(postgresql)
        assert [event.resource_id for event in seen] == ["second"]
        commit_first()
        assert names(postgresql, after=seen[-1].id) == ["first"]
        assert names(postgresql) == ["second", "first"]


def test_transactions_of_sqlite_number_their_events_in_turn(sqlite: Database) -> None:
    """The same attempt on SQLite: transaction 2 begins while 1 is open, and waits for it, since 1 has the write lock.

    So 2 cannot commit first, and its event has the larger number.
    """
    begun = Flag()

    def second() -> None:
        begun.set()
        with sqlite.writer.begin() as session:
            record(session, "second")

    with ThreadPoolExecutor(1) as pool, overlapping(sqlite) as commit_first:
        waiting = pool.submit(second)
        assert begun.wait(PATIENCE_SECONDS)
        assert read(sqlite) == []
        assert not waiting.done()
        commit_first()
        waiting.result()
    seen = read(sqlite)
    assert [event.resource_id for event in seen] == ["first", "second"]
    assert seen[0].id < seen[1].id


def test_numbers_of_a_plain_insert_are_missed_by_a_reader(postgresql: Database) -> None:
    """The counterpart without the outbox, so that the test above is known to test something."""

    def row(name: str) -> dict[str, object]:
        resource = {"resource_type": "upload", "resource_id": name}
        return {"project_id": "prj_1", "type": "upload.created", "data": {}, **resource}

    with postgresql.writer.begin() as first:
        first.execute(insert(Event), row("first"))
        with postgresql.writer.begin() as second:
            second.execute(insert(Event), row("second"))
        seen = read(postgresql)
        assert [event.resource_id for event in seen] == ["second"]
    assert names(postgresql, after=seen[-1].id) == []


def test_a_reader_that_resumes_by_id_gets_every_event_of_many_writers_once(database: Database) -> None:
    each = 15

    def write(writer: int) -> None:
        for number in range(each):
            with database.writer.begin() as session:
                record(session, f"{writer}/{number}")
                record(session, f"{writer}/{number} again")
                time.sleep(random.random() / 200)  # the transactions overlap, in an order that varies

    seen: list[Event] = []
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, writer) for writer in range(4)]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(seen) < 4 * each * 2 and time.monotonic() < deadline:
            seen += read(database, seen[-1].id if seen else 0)
        for writer in writers:
            writer.result()
    got = [event.resource_id for event in seen]
    assert sorted(got) == sorted(
        f"{writer}/{number}{end}" for writer in range(4) for number in range(each) for end in ("", " again")
    )
    for writer in range(4):
        own = [name for name in got if name.startswith(f"{writer}/")]
        assert own == [f"{writer}/{number}{end}" for number in range(each) for end in ("", " again")]
    assert [event.created_at for event in seen] == sorted(event.created_at for event in seen)


def test_events_of_other_projects_do_not_wait_for_an_open_transaction(postgresql: Database) -> None:
    with postgresql.writer.begin() as session:
        record(session, "one")
        with postgresql.writer.begin() as other:
            record(other, "two", project_id="prj_2")
        assert names(postgresql, project_id="prj_2") == ["two"]
        assert names(postgresql) == []
    assert names(postgresql) == ["one"]


def test_one_transaction_may_record_events_of_several_projects(database: Database) -> None:
    with database.writer.begin() as session:
        record(session, "b", project_id="prj_2")
        record(session, "a")
        record(session, "c", project_id="prj_2")
    assert names(database) == ["a"]
    assert names(database, project_id="prj_2") == ["b", "c"]


def test_a_transaction_that_fails_leaves_no_event(database: Database) -> None:
    def fail() -> None:
        with database.writer.begin() as session:
            record(session, "lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(database) == []


def test_a_commit_that_fails_leaves_no_event(database: Database, project_id: str) -> None:
    before = len(read(database, project_id=project_id))
    with database.writer() as session:
        record(session, "lost", project_id)
        session.add(Project(id="prj_other", name="test"))  # the name is taken
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        record(session, "kept", project_id)
        session.commit()
    assert names(database, project_id=project_id)[before:] == ["kept"]


def test_a_savepoint_that_is_rolled_back_drops_its_events(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        record(session, "before")
        outer = session.begin_nested()
        record(session, "in the outer savepoint")
        with session.begin_nested():
            record(session, "in a released savepoint inside of it")
        outer.rollback()
        record(session, "between")
        with session.begin_nested():
            record(session, "in a released savepoint")
        failing = session.begin_nested()
        record(session, "in a savepoint whose flush fails")
        session.add(Project(id="prj_other", name="test"))
        with pytest.raises(IntegrityError), failing:
            session.flush()
        record(session, "after")
    assert names(database) == ["before", "between", "in a released savepoint", "after"]


def test_events_in_a_savepoint_that_is_open_at_the_commit_are_kept(database: Database) -> None:
    with database.writer.begin() as session:
        session.begin_nested()
        record(session, "kept")
    assert names(database) == ["kept"]


def test_a_transaction_whose_events_cannot_be_written_is_not_committed(database: Database, project_id: str) -> None:
    def write() -> None:
        with database.writer.begin() as session:
            session.add(Project(id="prj_other", name="other"))
            events.record(session, "prj_1", "upload.created", Resource("upload", "u"), {"no JSON": {1, 2}})

    with pytest.raises((StatementError, TypeError)):
        write()
    with database.writer.begin() as session:
        assert session.scalars(select(Project.id)).all() == [project_id]
        record(session, "after")
    assert names(database) == ["after"]


def test_sessions_leave_no_listeners_behind(database: Database) -> None:
    def listeners() -> int:
        gc.collect()
        return len(_key_to_collection)

    before = listeners()
    for number in range(20):
        with database.writer.begin() as session:
            record(session, str(number))
    assert listeners() <= before + 8


def test_a_session_that_is_closed_and_used_again_forgets_its_events(database: Database) -> None:
    with database.writer() as session:
        record(session, "lost")
        session.close()
        record(session, "kept")
        session.commit()
        session.commit()
    assert names(database) == ["kept"]


def test_an_event_has_its_type_its_resource_and_its_data(database: Database) -> None:
    with database.writer.begin() as session:
        events.record(session, "prj_1", "alias.moved", Resource("alias", "digits/production"), {"version": 3})
    [event] = read(database)
    assert (event.type, event.resource_type, event.resource_id) == ("alias.moved", "alias", "digits/production")
    assert event.data == {"version": 3}
    assert Resource(event.resource_type, event.resource_id).path == "/v1/models/digits/aliases/production"
    with database.reader() as session:
        assert abs((session.scalars(select(now())).one() - event.created_at).total_seconds()) < PATIENCE_SECONDS


def test_a_type_that_is_not_in_the_list_is_refused(database: Database) -> None:
    with database.writer.begin() as session, pytest.raises(ValueError, match=r"'upload\.eaten' is not in"):
        events.record(session, "prj_1", "upload.eaten", Resource("upload", "upl_1"))


def test_every_type_is_about_a_resource_that_has_a_path() -> None:
    for type in events.TYPES:
        assert Resource(type.partition(".")[0], "a/b").path.startswith("/v1/")


def test_every_type_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
    table = page.partition("## Types")[2].partition("## Guarantees")[0]
    assert set(re.findall(r"`(\w+\.\w+)`", table)) == {*events.TYPES}


def test_old_events_are_deleted_in_batches_and_their_ids_are_not_used_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_DELETED_AT_ONCE", 2)
    with database.writer.begin() as session:
        for number in range(5):
            record(session, str(number))
    newest = read(database)[-1].id
    with database.writer.begin() as session:
        session.execute(update(Event).where(Event.resource_id != "4").values(created_at=now(-31 * 86_400)))
    for expected in (2, 2, 0):
        with database.writer.begin() as session:
            assert events.delete_old(session, days=30) == expected
    assert names(database) == ["4"]
    with database.writer.begin() as session:
        session.execute(update(Event).values(created_at=now(-31 * 86_400)))
        assert events.delete_old(session, days=30) == 0  # the newest one stays
        session.execute(delete(Event))
        record(session, "after all were deleted")
    assert read(database)[0].id > newest


def test_the_lock_of_a_project_is_free_until_the_commit(postgresql: Database) -> None:
    """So two claims of one project wait for each other only while one of them commits."""
    locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    held: list[int | None] = []
    with postgresql.writer.begin() as session:
        record(session, "one")
        connection = session.connection()
        held.append(connection.scalar(locks))
        listen(connection, "commit", lambda _: held.append(connection.scalar(locks)))  # called after the outbox
    with postgresql.reader() as other:
        held.append(other.scalar(locks))
    assert held == [0, 1, 0]
