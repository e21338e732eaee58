"""Pages of events and their gaps, on both databases."""

import pytest

from service.events import operations
from service.events.entries import ALL
from service.shared import events
from service.shared.database import Database
from service.shared.errors import Gone
from service.shared.events import Resource, outbox
from tests.service.events.test_feed import PROJECT, record


def ids(database: Database) -> list[int]:
    with database.reader() as session:
        return [event.id for event in operations.list_events(session, PROJECT, ALL, 0, 100)]


def test_after_deleted_events_a_reader_is_told_of_the_gap(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    record(database, "prj_other", "before the first event of the project")
    record(database, PROJECT, "a", "b", "c", "d")
    found = ids(database)
    with database.reader() as session:
        for after in (0, found[0] - 1, *found):
            operations.check_complete(session, PROJECT, after)  # nothing was deleted, whatever the first id is
    monkeypatch.setattr(outbox, "MAX_DELETED_AT_ONCE", 1)
    for _ in range(2):
        with database.writer.begin() as session:
            assert events.delete_old(session, days=0.0) == 1
    assert ids(database) == found[2:]
    with database.reader() as session:
        operations.check_complete(session, PROJECT, 0)  # it has read nothing
        for after in (*found[1:], 2**53):
            operations.check_complete(session, PROJECT, after)
        for after in (found[0] - 1, found[0]):
            with pytest.raises(Gone, match=f"event {after} is not stored.* oldest stored event is {found[2]}"):
                operations.check_complete(session, PROJECT, after)
        operations.check_complete(session, "prj_other", 1)


def test_a_reader_of_the_newest_event_finds_no_gap_however_old_it_is(database: Database) -> None:
    record(database, PROJECT, "a", "b")
    record(database, "prj_other", "of another project")
    newest = ids(database)[-1]
    with database.writer.begin() as session:
        assert events.delete_old(session, days=0.0) == 1
    assert ids(database) == [newest]
    with database.writer.begin() as session:
        events.record(session, PROJECT, "upload.deleted", Resource("upload", "a"))
    with database.reader() as session:
        operations.check_complete(session, PROJECT, newest)
    with database.writer.begin() as session:
        assert events.delete_old(session, days=0.0) == 1
    with database.reader() as session:
        operations.check_complete(session, PROJECT, newest)
        with pytest.raises(Gone):
            operations.check_complete(session, PROJECT, newest - 1)
