"""`?wait=SECONDS` and `Prefer: wait=SECONDS` (RFC 7240): answer once a resource has settled, or when the time is over.

A request that waits holds no thread and no session: it is a listener of the feed, and reads the resource again after
each of its events.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import BackgroundTasks, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.events import operations as events
from service.events.entries import Filters
from service.events.feed import Feed
from service.events.operations import PROJECT_EVENTS
from service.events.stream import Listening
from service.http.dependencies import Caller, Web
from service.http.query_parameters import QueryModel
from service.shared.database import Database
from service.shared.errors import NotFound

MAX_SECONDS = 60
APPLIED = "Preference-Applied"

Found = TypeVar("Found")


class WaitQuery(QueryModel):
    """How long the answer may take."""

    wait: Annotated[
        int | None,
        Field(
            ge=0,
            description=f"Seconds to wait for the end. A longer wait than {MAX_SECONDS} is cut to that; the header "
            f"`{APPLIED}` tells the wait that applies.",
        ),
    ] = None


@dataclass(frozen=True)
class Waiting:
    """What a request needs that may wait. preferred: the seconds of its header `Prefer`."""

    feed: Feed
    database: Database
    project_id: str
    preferred: int | None
    response: Response
    after: BackgroundTasks

    async def until(
        self,
        is_settled: Callable[[Found], bool],
        resource: str,
        find: Callable[[Session], Found],
        query: WaitQuery,
        made: Found | None = None,
    ) -> Found:
        """What `find` returns: once it is settled, or when the wait is over, or when the process stops.

        resource: the id in the resource's events. made: what the request has made; without a wait it is returned as it
        is. Messages that the request has to send are sent before the wait.
        """
        asked = self.preferred if query.wait is None else query.wait
        if asked is None:
            return made if made is not None else await run_in_threadpool(self._read, find)
        seconds = min(asked, MAX_SECONDS)
        self.response.headers[APPLIED] = f"wait={seconds}"
        await self.after()
        self.after.tasks.clear()
        try:
            return await self._until(is_settled, resource, find, seconds)
        except NotFound:
            if made is None:
                raise
            return made  # and deleted since

    async def _until(
        self, is_settled: Callable[[Found], bool], resource: str, find: Callable[[Session], Found], seconds: int
    ) -> Found:
        newest, found = await run_in_threadpool(self._read_with_newest, find)
        if is_settled(found):
            return found
        # The middleware checks the key before the answer.
        changes = self.feed.follow(PROJECT_EVENTS, self.project_id, newest, None, Filters(resource=resource))
        try:
            async with asyncio.timeout(seconds), aclosing(changes):
                async for entries in changes:
                    if entries and is_settled(found := await run_in_threadpool(self._read, find)):
                        return found
        except TimeoutError:
            pass
        return await run_in_threadpool(self._read, find)

    def _read(self, find: Callable[[Session], Found]) -> Found:
        with self.database.reader() as session:
            return find(session)

    def _read_with_newest(self, find: Callable[[Session], Found]) -> tuple[int, Found]:
        with self.database.reader() as session:
            newest = events.newest(session, self.project_id)  # first: a change after it has a later event
            return newest, find(session)


async def _waiting(
    request: Request,
    response: Response,
    after: BackgroundTasks,
    caller: Caller,
    services: Web,
    feed: Listening,
    prefer: Annotated[
        str | None, Header(description="`wait=SECONDS` is the same as `?wait=SECONDS`, which wins over it.")
    ] = None,
) -> Waiting:
    preferred = None if prefer is None else _wait_of(request.headers.getlist("prefer"))
    return Waiting(feed, services.database, caller.project_id, preferred, response, after)


Waits = Annotated[Waiting, Depends(_waiting)]


def _wait_of(lines: Iterable[str]) -> int | None:
    """The first preference `wait` of the headers `Prefer`; others are ignored. Raises RequestValidationError."""
    for preference in ",".join(lines).split(","):
        name, equals, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            try:
                return WaitQuery.model_validate({"wait": value.strip().strip('"') if equals else ""}).wait
            except ValidationError as error:
                faults = [{**fault, "loc": ("header", "Prefer", *fault["loc"])} for fault in error.errors()]
                raise RequestValidationError(faults) from error
    return None
