"""The event feed: every event once and in order, on both databases, however far behind a listener is."""

import asyncio
import random
import threading
from contextlib import aclosing

import pytest
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from service.access import operations as access
from service.access.tables import ApiKey
from service.events import feed as feeds
from service.events.entries import ALL, Filters
from service.events.feed import AccessLost, Feed, Source
from service.events.operations import PROJECT_EVENTS
from service.jobs import operations as jobs
from service.runs.event_source import RUN_EVENTS
from service.shared import events
from service.shared.database import Database
from service.shared.events import Event, Resource
from tests.service.jobs.test_operations import claim, create

SECONDS = 60
OUTAGE = OperationalError("SELECT 1", {}, Exception("the server has gone"))


PROJECT = "prj_without_other_events"


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "TICK_SECONDS", 0.05)


@pytest.fixture
def key_id(database: Database, project_id: str) -> str:
    """The id of a key that may read."""
    with database.writer.begin() as session:
        return access.create_key(session, project_id, "reader")[0].id


def record(database: Database, project_id: str, *uploads: str) -> None:
    with database.writer.begin() as session:
        for upload in uploads:
            events.record(session, project_id, "upload.created", Resource("upload", upload))


async def listen(
    feed: Feed, source: Source, key: str, after: int, key_id: str | None, count: int, filters: Filters = ALL
) -> list[tuple[int, str]]:
    """The id and the resource of the first `count` events."""
    found: list[tuple[int, str]] = []
    async with aclosing(feed.follow(source, key, after, key_id, filters)) as pages:
        async for entries in pages:
            found += [(entry.id, entry.resource_id) for entry in entries]
            if len(found) >= count:
                return found
    return found


def names(found: list[tuple[int, str]]) -> list[str]:
    assert [id for id, _ in found] == sorted({id for id, _ in found})
    return [name for _, name in found]


def test_events_of_a_job_arrive_once_in_order_until_it_has_ended(
    database: Database, project_id: str, key_id: str
) -> None:
    job_id, other = create(database, project_id), create(database, project_id)

    async def types(feed: Feed, after: int) -> list[tuple[int, str]]:
        pages = feed.follow(RUN_EVENTS, job_id, after, key_id)
        return [(entry.id, entry.type) async for entries in pages for entry in entries]

    async def scenario() -> list[list[tuple[int, str]]]:
        feed = Feed(database)
        listeners = [asyncio.create_task(types(feed, 0)) for _ in range(3)]
        mine = await asyncio.to_thread(claim, database)
        assert mine is not None
        late = asyncio.create_task(types(feed, 0))

        def finish() -> None:
            with database.writer.begin() as session:
                jobs.pause(session, other)
                jobs.succeed(session, mine)

        await asyncio.to_thread(finish)
        found = list(await asyncio.gather(*listeners, late))
        # a client that reconnects names its last event
        found.append(await types(feed, found[0][1][0]))
        found.append(await types(feed, found[0][-1][0]))
        return found

    *whole, rest, nothing = asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    for found in whole:
        assert [type for _, type in found] == ["queued", "started", "succeeded"]
        assert found == whole[0]
    assert [type for _, type in rest] == ["succeeded"]
    assert nothing == []


def test_a_reader_that_resumes_misses_and_repeats_nothing_while_writers_commit(database: Database) -> None:
    """Four writers with overlapping transactions, some of which are rolled back; readers reconnect all the time."""
    writers, each = 4, 40
    committed: list[str] = []
    lock = threading.Lock()

    def write(writer: int) -> None:
        drawn = random.Random(writer)
        for number in range(each):
            name = f"{writer}-{number}"
            with database.writer() as session, session.begin() as transaction:
                events.record(session, PROJECT, "upload.created", Resource("upload", name))
                if drawn.random() < 0.2:
                    transaction.rollback()
                    continue
            with lock:
                committed.append(name)

    async def read(feed: Feed, seed: int) -> list[tuple[int, str]]:
        drawn = random.Random(seed)
        found: list[tuple[int, str]] = [(0, "none")]
        while found[-1][1] != "last":
            count = drawn.choice([1, 1, 5])
            async with aclosing(feed.follow(PROJECT_EVENTS, PROJECT, found[-1][0], None)) as pages:
                async for entries in pages:
                    found += [(entry.id, entry.resource_id) for entry in entries]
                    count -= 1
                    if count == 0 or found[-1][1] == "last":
                        break
        return found[1:]

    async def scenario() -> list[list[tuple[int, str]]]:
        feed = Feed(database)
        readers = [asyncio.create_task(read(feed, seed)) for seed in range(3)]
        await asyncio.gather(*(asyncio.to_thread(write, writer) for writer in range(writers)))
        record(database, PROJECT, "last")
        committed.append("last")
        return await asyncio.gather(*readers)

    for found in asyncio.run(asyncio.wait_for(scenario(), SECONDS)):
        seen = names(found)
        assert sorted(seen) == sorted(committed)
        for writer in range(writers):  # in the order of commits
            own = [int(name.partition("-")[2]) for name in seen if name.startswith(f"{writer}-")]
            assert own == sorted(own)


@pytest.mark.parametrize("kept", [1, 3, 1000])
def test_a_listener_that_is_far_behind_gets_all_pages(
    database: Database, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "PAGE", 2)
    monkeypatch.setattr(feeds, "MAX_KEPT", kept)
    before, later = [f"before {n}" for n in range(7)], [f"later {n}" for n in range(7)]
    record(database, PROJECT, *before)

    async def scenario() -> list[list[tuple[int, str]]]:
        feed = Feed(database)
        # it takes nothing while the others listen
        slow = feed.follow(PROJECT_EVENTS, PROJECT, 0, None)
        first = [(entry.id, entry.resource_id) for entry in await anext(slow)]
        listeners = [
            asyncio.create_task(listen(feed, PROJECT_EVENTS, PROJECT, 0, None, len(before) + len(later)))
            for _ in range(2)
        ]
        for name in later:
            await asyncio.to_thread(record, database, PROJECT, name)
        found = await asyncio.gather(*listeners)
        while len(first) < len(before) + len(later):
            first += [(entry.id, entry.resource_id) for entry in await anext(slow)]
        await slow.aclose()
        return [first, *found]

    for found in asyncio.run(asyncio.wait_for(scenario(), SECONDS)):
        assert names(found) == before + later


def test_filters_and_projects_select_events(database: Database) -> None:
    other = "prj_other"

    async def scenario() -> list[list[tuple[int, str]]]:
        feed = Feed(database)
        wanted = [
            Filters(resource="b"),
            Filters(types=frozenset({"upload.deleted"})),
            Filters(hidden=frozenset({"run"})),
        ]
        listeners = [
            asyncio.create_task(listen(feed, PROJECT_EVENTS, PROJECT, 0, None, count, filters))
            for filters, count in zip(wanted, (2, 1, 3), strict=True)
        ]
        foreign = asyncio.create_task(listen(feed, PROJECT_EVENTS, other, 0, None, 1))
        await asyncio.to_thread(record, database, PROJECT, "a", "b", "b")

        def write() -> None:
            with database.writer.begin() as session:
                events.record(session, PROJECT, "run.queued", Resource("run", "r"))
                events.record(session, PROJECT, "upload.deleted", Resource("upload", "a"))
                events.record(session, other, "upload.deleted", Resource("upload", "foreign"))

        await asyncio.to_thread(write)
        found = await asyncio.gather(*listeners, foreign)
        # the same from the database, after the fact
        again = [await listen(feed, PROJECT_EVENTS, PROJECT, 0, None, 1, filters) for filters in wanted]
        assert [names(each)[: len(whole)] for each, whole in zip(again, found, strict=False)] == [
            names(whole)[: len(each)] for each, whole in zip(again, found, strict=False)
        ]
        return found

    of_b, deleted, without_runs, foreign = asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    assert names(of_b) == ["b", "b"]
    assert names(deleted) == ["a"]
    assert names(without_runs)[:3] == ["a", "b", "b"]
    assert names(foreign) == ["foreign"]


def test_close_ends_every_stream_and_refuses_new_ones(database: Database, project_id: str, key_id: str) -> None:
    job_id = create(database, project_id)
    record(database, PROJECT, "u")

    async def scenario() -> list[list[tuple[int, str]]]:
        feed = Feed(database)
        has_begun = asyncio.Semaphore(0)

        async def follow(source: Source, key: str) -> list[tuple[int, str]]:
            found = []
            async for entries in feed.follow(source, key, 0, key_id):
                found += [(entry.id, entry.resource_id) for entry in entries]
                has_begun.release()
            return found

        listeners = [asyncio.create_task(follow(*each)) for each in ((RUN_EVENTS, job_id), (PROJECT_EVENTS, PROJECT))]
        for _ in listeners:
            await has_begun.acquire()
        feed.close()
        return [*await asyncio.gather(*listeners), await follow(RUN_EVENTS, job_id)]

    of_job, of_project, refused = asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    assert (names(of_job), names(of_project)[-1], refused) == ([job_id], "u", [])


def test_a_key_without_read_access_ends_its_own_streams(database: Database, key_id: str) -> None:
    async def scenario() -> None:
        feed = Feed(database)
        mine = asyncio.create_task(listen(feed, PROJECT_EVENTS, PROJECT, 0, key_id, 2))
        unchecked = asyncio.create_task(listen(feed, PROJECT_EVENTS, PROJECT, 0, None, 1))

        def end() -> None:
            with database.writer.begin() as session:
                session.get_one(ApiKey, key_id).scopes = ["infer"]

        await asyncio.to_thread(end)
        with pytest.raises(AccessLost):
            await mine
        await asyncio.to_thread(record, database, PROJECT, "u")
        assert names(await unchecked) == ["u"]

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_nothing_is_polled_while_nobody_listens(database: Database) -> None:
    record(database, PROJECT, "u")

    async def scenario() -> None:
        feed = Feed(database)
        assert names(await listen(feed, PROJECT_EVENTS, PROJECT, 0, None, 1)) == ["u"]
        assert feed._ticking is not None
        await feed._ticking
        assert names(await listen(feed, PROJECT_EVENTS, PROJECT, 0, None, 1)) == ["u"]

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_a_stream_goes_on_after_an_outage_of_the_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    record(database, PROJECT, "before")
    is_away, has_failed = threading.Event(), threading.Event()

    original = database.reader

    def reader() -> object:
        if is_away.is_set():
            has_failed.set()
            raise OUTAGE
        return original()

    monkeypatch.setattr(database, "reader", reader)

    async def scenario() -> list[tuple[int, str]]:
        feed = Feed(database)
        pages = feed.follow(PROJECT_EVENTS, PROJECT, 0, None)
        found = [(entry.id, entry.resource_id) for entry in await anext(pages)]
        is_away.set()
        await asyncio.to_thread(record, database, PROJECT, "meanwhile")
        assert await asyncio.to_thread(has_failed.wait, SECONDS)
        is_away.clear()
        found += [(entry.id, entry.resource_id) for entry in await anext(pages)]
        await pages.aclose()
        return found

    with capture_logs() as logs:
        assert names(asyncio.run(asyncio.wait_for(scenario(), SECONDS))) == ["before", "meanwhile"]
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == [
        "event_feed_failed",
        "event_feed_recovered",
    ]


def test_a_listener_behind_deleted_events_goes_on_with_what_is_stored(database: Database) -> None:
    record(database, PROJECT, *(f"old {n}" for n in range(5)))

    async def scenario() -> list[tuple[int, str]]:
        feed = Feed(database)
        waits = asyncio.create_task(listen(feed, PROJECT_EVENTS, PROJECT, 0, None, 6))
        await asyncio.to_thread(delete_all)
        late = asyncio.create_task(listen(feed, PROJECT_EVENTS, PROJECT, 1, None, 1))
        await asyncio.to_thread(record, database, PROJECT, "new")
        waits.cancel()
        return await late

    def delete_all() -> None:
        with database.writer.begin() as session:
            session.execute(delete(Event))

    assert names(asyncio.run(asyncio.wait_for(scenario(), SECONDS)))[-1] == "new"
