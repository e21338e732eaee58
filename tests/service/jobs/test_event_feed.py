"""The event feed: every event once and in order, until the job ends."""

import asyncio

from service.access import operations as access
from service.jobs import operations as jobs
from service.jobs.event_feed import Feed
from service.shared.database import Database
from tests.service.jobs.test_operations import claim, create


def made(database: Database, project_id: str) -> str:
    """The id of a key that may read."""
    with database.writer.begin() as session:
        return access.create_key(session, project_id, "reader")[0].id


def test_events_arrive_once_in_order_until_the_job_has_ended(database: Database, project_id: str) -> None:
    job_id, other = create(database, project_id), create(database, project_id)
    key_id = made(database, project_id)

    async def listen(feed: Feed, after: int) -> list[tuple[int, str]]:
        return [(event.id, event.type) async for events in feed.follow(job_id, after, key_id) for event in events]

    async def scenario() -> list[list[tuple[int, str]]]:
        feed = Feed(database)
        listeners = [asyncio.create_task(listen(feed, 0)) for _ in range(3)]
        await asyncio.sleep(0.7)
        mine = await asyncio.to_thread(claim, database)
        assert mine is not None
        late = asyncio.create_task(listen(feed, 0))

        def finish() -> None:
            with database.writer.begin() as session:
                jobs.pause(session, other)
                jobs.succeed(session, mine)

        await asyncio.to_thread(finish)
        found = list(await asyncio.gather(*listeners, late))
        # a client that reconnects names its last event
        found.append(await listen(feed, found[0][1][0]))
        found.append(await listen(feed, found[0][-1][0]))
        return found

    *whole, rest, nothing = asyncio.run(asyncio.wait_for(scenario(), 20))
    for events in whole:
        assert [type for _, type in events] == ["queued", "started", "succeeded"]
        assert events == whole[0]
    assert [type for _, type in rest] == ["succeeded"]
    assert nothing == []


def test_close_ends_every_stream_and_refuses_new_ones(database: Database, project_id: str) -> None:
    job_id, key_id = create(database, project_id), made(database, project_id)

    async def listen(feed: Feed) -> list[str]:
        return [event.type async for events in feed.follow(job_id, 0, key_id) for event in events]

    async def scenario() -> list[list[str]]:
        feed = Feed(database)
        listeners = [asyncio.create_task(listen(feed)) for _ in range(3)]
        await asyncio.sleep(0.7)
        feed.close()
        return [*await asyncio.gather(*listeners), await listen(feed)]

    assert asyncio.run(asyncio.wait_for(scenario(), 5)) == [["queued"]] * 3 + [[]]
