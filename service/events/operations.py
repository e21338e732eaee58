"""The events of a project in the outbox: pages of them, and the source of the feed."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session

from service.events import schemas
from service.events.entries import Entry, Filters, frame
from service.events.feed import Source
from service.shared.errors import Gone
from service.shared.events import DeletedEvents, Event

MAX_READ_AT_ONCE = 1000
"""The maximum number of new events of a project per poll. A poll after an outage reads the rest one tick later."""

# Built once: a poll runs them for every project that has listeners. There is one position per project, because ids
# ascend in the order of commits within a project only.
_NEWEST = select(func.max(Event.id)).where(Event.project_id == bindparam("project_id"))
_OLDEST = select(func.min(Event.id)).where(Event.project_id == bindparam("project_id"))
_DELETED = select(DeletedEvents.event_id).where(DeletedEvents.project_id == bindparam("project_id"))
_NEWER = (
    select(Event)
    .where(Event.project_id == bindparam("project_id"), Event.id > bindparam("after"))
    .order_by(Event.id)
    .limit(MAX_READ_AT_ONCE)
)


def list_events(session: Session, project_id: str, filters: Filters, after: int, size: int) -> Sequence[Event]:
    """At most `size` of a project's selected events after the event `after`, oldest first."""
    query = select(Event).where(Event.project_id == project_id, Event.id > after).order_by(Event.id).limit(size)
    return session.scalars(_narrow(query, filters)).all()


def newest(session: Session, project_id: str) -> int:
    """The id of a project's newest event; 0 if it has none."""
    return session.scalar(_NEWEST, {"project_id": project_id}) or 0


def oldest_after_gap(session: Session, project_id: str, after: int) -> int | None:
    """The id of the oldest stored event if an event after `after` was deleted by its age; otherwise None.

    A reader whose `after` is 0 has read nothing and lacks nothing. Read the events before the gap: the deletion of
    events that were just read is told too often, the other order would miss it.
    """
    if after == 0 or after >= (session.scalar(_DELETED, {"project_id": project_id}) or 0):
        return None
    return session.scalar(_OLDEST, {"project_id": project_id})


def check_complete(session: Session, project_id: str, after: int) -> None:
    """Raise Gone if an event after the event `after` was deleted by its age."""
    if (oldest := oldest_after_gap(session, project_id, after)) is not None:
        raise Gone("events_pruned", gap(after, oldest))


def gap(after: int, oldest: int) -> str:
    """What a reader is told whose last event is no longer stored."""
    return (
        f"event {after} is not stored: it and events after it may have been deleted by their age; the oldest stored "
        f"event is {oldest}: read the resources again, then the events with after=0"
    )


def _newest_of(session: Session, project_ids: Collection[str]) -> Mapping[str, int]:
    return {project_id: newest(session, project_id) for project_id in project_ids}


def _newer(session: Session, positions: Mapping[str, int]) -> Iterable[tuple[str, Entry]]:
    for project_id, after in positions.items():
        for event in session.scalars(_NEWER, {"project_id": project_id, "after": after}):
            yield project_id, _entry(event)


def _page(session: Session, project_id: str, after: int, size: int, filters: Filters) -> Sequence[Entry]:
    return [_entry(event) for event in list_events(session, project_id, filters, after, size)]


def _none_ended(session: Session, project_ids: Collection[str]) -> Collection[str]:
    return ()


PROJECT_EVENTS = Source(_newest_of, _newer, _page, _none_ended)
"""The keys are ids of projects."""


def _narrow(query: Select[Event], filters: Filters) -> Select[Event]:
    if filters.types:
        query = query.where(Event.type.in_(sorted(filters.types)))
    if filters.resource is not None:
        query = query.where(Event.resource_id == filters.resource)
    query = query.where(*filters.period.of(Event.created_at))
    if filters.hidden:
        query = query.where(Event.resource_type.not_in(sorted(filters.hidden)))
    return query


def _entry(event: Event) -> Entry:
    json = schemas.Event.of(event).model_dump_json()
    sent = frame(event.id, event.type, json)
    return Entry(event.id, event.type, event.resource_type, event.resource_id, event.created_at, sent)
