"""Sends the events of jobs to all listeners of a process, with one poll of the database per tick.

A listener gets every event after its first id, once and in order. The id of an event is assigned while the row of its
job is locked, so that the ids of one job become visible in order.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from service.access import operations as access
from service.jobs.tables import FINAL_STATES, Job, JobEvent
from service.shared.database import Database
from service.shared.outage_log import Outage

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0


class Ending(Enum):
    """The reason for the end of a stream."""

    JOB = "the job has ended, or the process stops"
    ACCESS = "the key has lost its read access"


class AccessLost(Exception):
    """The listener's key was revoked, has expired, or has lost the scope read."""


@dataclass(eq=False)
class Listener:
    """A stream of one job's events. after: id of the last event sent. waiting: events to send."""

    job_id: str
    after: int
    key_id: str
    waiting: asyncio.Queue[Sequence[JobEvent] | Ending] = field(default_factory=asyncio.Queue)


class Feed:
    """All listeners of a process. Its methods run in the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[Listener] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._is_closed = False
        self._outage = Outage(log, "event_feed_failed", "event_feed_recovered")

    async def follow(self, job_id: str, after: int, key_id: str) -> AsyncIterator[Sequence[JobEvent]]:
        """New events of a job after the event `after`, until it ends; an empty list every KEEP_ALIVE_SECONDS without.

        Raises AccessLost when the key loses its read access.
        """
        if self._is_closed:
            return
        listener = Listener(job_id, after, key_id)
        self._listeners.add(listener)
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tick())
        try:
            while True:
                try:
                    events = await asyncio.wait_for(listener.waiting.get(), KEEP_ALIVE_SECONDS)
                except TimeoutError:
                    yield []
                    continue
                if events is Ending.ACCESS:
                    raise AccessLost
                if events is Ending.JOB:
                    return
                yield events
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End all streams. Clients reconnect to another process with the id of their last event."""
        self._is_closed = True
        for listener in self._listeners:
            listener.waiting.put_nowait(Ending.JOB)

    async def _tick(self) -> None:
        while self._listeners:
            listeners = list(self._listeners)
            try:
                events, ended, reading = await asyncio.to_thread(self._read, listeners)
            except SQLAlchemyError as error:
                self._outage.failed("feed", error)
            else:
                self._outage.works("feed")
                self._hand_out(listeners, events, ended, reading)
            await asyncio.sleep(TICK_SECONDS)

    def _read(self, listeners: Sequence[Listener]) -> tuple[dict[str, list[JobEvent]], set[str], set[str]]:
        """New events by job; the jobs that had ended before; the keys that may read."""
        after: dict[str, int] = {}
        for listener in listeners:
            after[listener.job_id] = min(after.get(listener.job_id, listener.after), listener.after)
        with self._database.reader() as session:
            ended = select(Job.id).where(Job.id.in_(after), Job.state.in_(FINAL_STATES))
            finished = set(session.scalars(ended))
        with self._database.reader() as session:
            newer = select(JobEvent).where(JobEvent.job_id.in_(after), JobEvent.id > min(after.values()))
            events: dict[str, list[JobEvent]] = {}
            for event in session.scalars(newer.order_by(JobEvent.id)):
                events.setdefault(event.job_id, []).append(event)
            reading = access.keys_with(session, "read", {listener.key_id for listener in listeners})
        return events, finished, reading

    def _hand_out(
        self, listeners: Sequence[Listener], events: dict[str, list[JobEvent]], ended: set[str], reading: set[str]
    ) -> None:
        for listener in listeners:
            if listener.key_id not in reading:
                listener.waiting.put_nowait(Ending.ACCESS)
                continue
            new = [event for event in events.get(listener.job_id, ()) if event.id > listener.after]
            if new:
                listener.after = new[-1].id
                listener.waiting.put_nowait(new)
            if listener.job_id in ended:
                listener.waiting.put_nowait(Ending.JOB)
