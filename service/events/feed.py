"""Sends events to all listeners of a process, with one poll of the database per tick.

A channel is what listeners follow: the events of one project, or of one job. The ids of a channel become visible in
order. The feed keeps the newest events of each channel that has listeners, and listeners take them from there. A
listener that is further behind reads pages from the database. So it gets every event once and in order, and a slow
client holds no events in memory.
"""

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.access import operations as access
from service.events.entries import ALL, Entry, Filters
from service.shared.database import Database
from service.shared.outage_log import Outage

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0
MAX_KEPT = 1000
"""The newest events of a channel that are kept in memory."""
PAGE = 200
"""The maximum number of events that a listener gets at once."""
# The rest of the threads and of the connections to the database serve other requests.
PAGES_READ_AT_ONCE = 2
# 200 listeners at once keep the event loop busy for 30 ms, in which each query of another request waits for the
# interpreter lock many times. So listeners are woken in groups, with a pause after each.
WOKEN_AT_ONCE = 10
PAUSE_SECONDS = 0.005


class AccessLost(Exception):
    """The listener's key was revoked, has expired, or has lost the scope read."""


@dataclass(frozen=True)
class Source:
    """A table of events. A key names one channel of it: a project or a job.

    newest: the largest id of each key that has events. newer: the events after the position of each key, in order; it
    may stop early. page: at most so many events of one key after an id, in order. ended: the keys that get no more
    events.
    """

    newest: Callable[[Session, Collection[str]], Mapping[str, int]]
    newer: Callable[[Session, Mapping[str, int]], Iterable[tuple[str, Entry]]]
    page: Callable[[Session, str, int, int, Filters], Sequence[Entry]]
    ended: Callable[[Session, Collection[str]], Collection[str]]


@dataclass(eq=False)
class _Listener:
    """A stream or a wait. key_id: the key that must keep its read access; None if nobody has to check it."""

    key_id: str | None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    has_lost_access: bool = False


@dataclass(eq=False)
class _Channel:
    """The newest events of a key: all after the id `start`. Before the first poll, `start` is None."""

    source: Source
    key: str
    start: int | None = None
    entries: list[Entry] = field(default_factory=list)
    has_ended: bool = False
    listeners: set[_Listener] = field(default_factory=set)

    @property
    def position(self) -> int | None:
        return self.entries[-1].id if self.entries else self.start

    def after(self, id: int) -> Sequence[Entry]:
        first = bisect_right(self.entries, id, key=lambda entry: entry.id)
        return self.entries[first : first + PAGE]

    def extend(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        if (surplus := len(self.entries) - MAX_KEPT) > 0:
            self.start = self.entries[surplus - 1].id
            del self.entries[:surplus]


class _Polled(NamedTuple):
    """The results of a poll for some channels, and the keys that have lost their read access."""

    newest: dict[_Channel, int]
    newer: dict[_Channel, list[Entry]]
    ended: set[_Channel]
    without_access: set[str]


class Feed:
    """All listeners of a process. Its methods run in the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[tuple[Source, str], _Channel] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._is_due = asyncio.Event()
        self._reading_pages = asyncio.Semaphore(PAGES_READ_AT_ONCE)
        self._is_closed = False
        self._outage = Outage(log, "event_feed_failed", "event_feed_recovered")

    async def follow(
        self, source: Source, key: str, after: int, key_id: str | None, filters: Filters = ALL
    ) -> AsyncGenerator[Sequence[Entry], None]:
        """The selected events of a channel after the event `after`, until it ends or the process stops.

        Yields an empty list after KEEP_ALIVE_SECONDS without an event. Raises AccessLost when the API key `key_id`
        loses its read access; None is not checked.
        """
        channel = self._channels.setdefault((source, key), _Channel(source, key))
        listener = _Listener(key_id)
        channel.listeners.add(listener)
        if channel.start is None:
            self._is_due.set()
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tick())
        clock = asyncio.get_running_loop().time
        silent_until = clock() + KEEP_ALIVE_SECONDS
        try:
            while not self._is_closed:
                if listener.has_lost_access:
                    raise AccessLost
                listener.changed.clear()
                try:
                    entries, position = await self._next(channel, after, filters)
                except SQLAlchemyError as error:
                    self._outage.failed("pages", error)
                    await asyncio.sleep(TICK_SECONDS)
                    continue
                if entries:
                    yield entries
                    silent_until = clock() + KEEP_ALIVE_SECONDS
                if position > after:
                    after = position
                    continue
                if channel.has_ended:
                    return
                try:
                    async with asyncio.timeout_at(silent_until):
                        await listener.changed.wait()
                except TimeoutError:
                    yield []
                    silent_until = clock() + KEEP_ALIVE_SECONDS
        finally:
            channel.listeners.discard(listener)
            if not channel.listeners and self._channels.get((source, key)) is channel:
                del self._channels[source, key]

    def close(self) -> None:
        """End all streams and waits. Clients reconnect to another process with the id of their last event."""
        self._is_closed = True
        for channel in self._channels.values():
            for listener in channel.listeners:
                listener.changed.set()

    async def _next(self, channel: _Channel, after: int, filters: Filters) -> tuple[Sequence[Entry], int]:
        """The next selected events after an id, and the id up to which there are no others."""
        if (start := channel.start) is None:
            return [], after
        if after >= start:
            newer = channel.after(after)
            return [entry for entry in newer if filters.match(entry)], newer[-1].id if newer else after
        async with self._reading_pages:
            entries = await asyncio.to_thread(self._page, channel, after, filters)
        self._outage.works("pages")
        if len(entries) == PAGE:
            return entries, entries[-1].id
        return entries, max(start, entries[-1].id if entries else after)

    def _page(self, channel: _Channel, after: int, filters: Filters) -> Sequence[Entry]:
        with self._database.reader() as session:
            return channel.source.page(session, channel.key, after, PAGE, filters)

    async def _tick(self) -> None:
        while self._channels:
            self._is_due.clear()
            channels = list(self._channels.values())
            positions = {channel: channel.position for channel in channels}
            keys = {listener.key_id for channel in channels for listener in channel.listeners}
            try:
                polled = await asyncio.to_thread(self._poll, positions, {key for key in keys if key is not None})
            except Exception as error:  # the streams go on when it works again
                self._outage.failed("poll", error, trace=not isinstance(error, SQLAlchemyError))
            else:
                self._outage.works("poll")
                await self._hand_out(channels, polled)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._is_due.wait()

    def _poll(self, positions: Mapping[_Channel, int | None], key_ids: set[str]) -> _Polled:
        polled = _Polled({}, {}, set(), set())
        with self._database.reader() as session:
            for source in {channel.source for channel in positions}:
                channels = {channel.key: channel for channel in positions if channel.source is source}
                # first, so that the events of a channel that has ended are complete
                polled.ended.update(channels[key] for key in source.ended(session, channels))
                new = [key for key, channel in channels.items() if positions[channel] is None]
                found = source.newest(session, new) if new else {}
                polled.newest.update({channels[key]: found.get(key, 0) for key in new})
                known = {key: at for key, channel in channels.items() if (at := positions[channel]) is not None}
                for key, entry in source.newer(session, known) if known else ():
                    polled.newer.setdefault(channels[key], []).append(entry)
            polled.without_access.update(key_ids - access.keys_with(session, "read", key_ids))
        return polled

    async def _hand_out(self, channels: Sequence[_Channel], polled: _Polled) -> None:
        woken = 0
        for channel in channels:
            has_changed = channel in polled.newest or channel in polled.newer
            has_changed |= channel in polled.ended and not channel.has_ended
            if channel in polled.newest:
                channel.start = polled.newest[channel]
            channel.extend(polled.newer.get(channel, ()))
            channel.has_ended = channel in polled.ended
            for listener in list(channel.listeners):
                listener.has_lost_access = listener.key_id in polled.without_access
                if has_changed or listener.has_lost_access:
                    listener.changed.set()
                    woken += 1
                    if woken % WOKEN_AT_ONCE == 0:
                        await asyncio.sleep(PAUSE_SECONDS)
