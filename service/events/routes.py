"""/v1/events."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.sse import format_sse_event
from pydantic import Field

from service.access.operations import Principal
from service.events import operations as events
from service.events import schemas, stream
from service.events.entries import Filters
from service.http import event_streams
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.error_responses import errors
from service.http.paging import page_of
from service.http.query_parameters import TimedPageQuery
from service.shared.resource_names import Reference

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=AuthenticatedRoute)

TYPES_OF_A_STREAM = (
    "Type of the event; `events_pruned` comes first if events after the last one may have been deleted, and "
    "`access_ended` ends the stream."
)

# What only a key with the scope `admin` can read at its path.
ADMINISTRATION = frozenset({"api_key", "project"})


class EventQuery(TimedPageQuery):
    """Which events to list."""

    type: Annotated[list[schemas.EventType], Field(max_length=100, description="Of any of these types.")] = []  # noqa: RUF012 Pydantic copies it
    resource: Annotated[
        Reference | None, Field(description="About the resource of this id, such as `run_…` or `digits/3`.")
    ] = None
    after: Annotated[int, Field(ge=0, le=2**53, description="After the event of this id.")] = 0

    def filters(self, caller: Principal) -> Filters:
        """The filters of the list, without what the caller must not read."""
        hidden = frozenset() if "admin" in caller.scopes else ADMINISTRATION
        return Filters(frozenset(self.type), self.resource, self.period, hidden)


@router.get(
    "",
    operation_id="list_events",
    summary="List or follow the events of the project",
    response_model=schemas.EventPage,
    responses={
        200: {"content": event_streams.described("Event", TYPES_OF_A_STREAM)},
        **errors("events_pruned"),
    },
)
def list_events(
    query: Annotated[EventQuery, Query()],
    request: Request,
    caller: Caller,
    services: Web,
    feed: stream.Listening,
    accept: stream.Accept = "*/*",
    last_event_id: stream.LastEventId = None,
) -> Response:
    """What happened in the project, oldest first; as server-sent events if the request accepts them.

    Ids ascend in the order of the changes: a reader that continues after its last id misses nothing. Events are deleted
    after some weeks (`SENSORIUM_EVENT_DAYS`). If that has happened to an event after `after`, the list answers 410, and
    a stream begins with the event `events_pruned`. Events of API keys and projects need the scope `admin`.
    """
    page, filters = page_of(query, request), query.filters(caller)
    after = query.after if page.after is None else int(page.after)
    is_stream = stream.EVENT_STREAM in accept
    if is_stream and last_event_id is not None:
        after = last_event_id
    with services.database.reader() as session:
        if is_stream:
            oldest = events.oldest_after_gap(session, caller.project_id, after)
            first = b"" if oldest is None else _pruned(after, oldest)
            return stream.response(feed, events.PROJECT_EVENTS, caller.project_id, after, caller.key_id, filters, first)
        rows = events.list_events(session, caller.project_id, filters, after, page.size + 1)
        events.check_complete(session, caller.project_id, after)
        return page.response("events", [(str(row.id), schemas.Event.of(row)) for row in rows])


def _pruned(after: int, oldest: int) -> bytes:
    """The first event of a stream that may lack events; without an id, so that it does not become the last one."""
    data = {"code": "events_pruned", "detail": events.gap(after, oldest), "after": after, "oldest": oldest}
    return format_sse_event(event="events_pruned", data_str=orjson.dumps(data).decode())
