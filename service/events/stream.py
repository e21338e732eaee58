"""Server-sent events: the response, and the headers that ask for it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BeforeValidator, Field

from service.events.entries import ALL, Filters
from service.events.feed import AccessLost, Feed, Source
from service.http import event_streams

EVENT_STREAM = event_streams.MEDIA_TYPE

Accept = Annotated[str, Header(description=f"`{EVENT_STREAM}` follows the events as they happen.")]
LastEventId = Annotated[
    Annotated[int, Field(ge=0, le=2**53)] | None,
    BeforeValidator(lambda value: value or None),  # browsers send an empty one for none
    Header(alias="Last-Event-ID", description="As `after`, for streams; it wins over `after` and `page_token`."),
]

# Without an id, so that a client that reconnects with another key resumes after its last event.
ACCESS_ENDED = format_sse_event(
    event="access_ended",
    data_str='{"code":"invalid_api_key","detail":"the API key was revoked, has expired, or may no longer read: '
    'the stream ends; reconnect with a valid key and the id of the last event"}',
)


async def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


Listening = Annotated[Feed, Depends(_feed)]
"""The feed of the process."""


def response(
    feed: Feed, source: Source, key: str, after: int, key_id: str, filters: Filters = ALL, first: bytes = b""
) -> EventSourceResponse:
    """A stream of the selected events of a channel after the event `after`. first: what it sends before them."""
    stream = _stream(feed, source, key, after, key_id, filters, first)
    return EventSourceResponse(stream, headers={"X-Accel-Buffering": "no"})  # nginx sends each event at once


async def _stream(
    feed: Feed, source: Source, key: str, after: int, key_id: str, filters: Filters, first: bytes
) -> AsyncIterator[bytes]:
    if first:
        yield first
    try:
        async with aclosing(feed.follow(source, key, after, key_id, filters)) as pages:
            async for entries in pages:
                yield b"".join(entry.frame for entry in entries) or KEEPALIVE_COMMENT
    except AccessLost:
        yield ACCESS_ENDED
