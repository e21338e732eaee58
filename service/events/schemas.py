"""Response bodies of events."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from service.shared import events
from service.shared.events import TYPES, Resource

if TYPE_CHECKING:
    EventType = str
else:
    EventType = Literal[tuple(TYPES)]  # for the document and the filter


_EXAMPLE: JsonDict = {
    "id": 17,
    "type": "run.succeeded",
    "resource": {
        "type": "run",
        "id": "run_01K6R3J6ZQ9W8V5T4S3R2Q1P0N",
        "path": "/v1/runs/run_01K6R3J6ZQ9W8V5T4S3R2Q1P0N",
    },
    "data": {},
    "created_at": "2026-03-01T12:04:05.678000Z",
}


class EventResource(BaseModel):
    """What an event is about."""

    type: str = Field(description="The kind of resource, such as `run`.")
    id: str = Field(description="As in the path; with a slash between two parts, such as `digits/3`.")
    path: str = Field(description="Where the API has it. It may be deleted by now.")


class Event(BaseModel):
    """A change of a resource of the project."""

    id: int = Field(description="Ascends in the order of the changes.")
    type: str = Field(description="What happened, such as `run.succeeded`.")
    resource: EventResource = Field(description="What it is about.")
    data: dict[str, Any] = Field(description="Depends on the type.")
    created_at: datetime = Field(description="When it happened.")

    @classmethod
    def of(cls, row: events.Event) -> "Event":
        """The event of a row."""
        resource = Resource(row.resource_type, row.resource_id)
        described = EventResource(type=resource.type, id=resource.id, path=resource.path)
        return cls(id=row.id, type=row.type, resource=described, data=row.data, created_at=row.created_at)


class EventPage(BaseModel):
    """One page of events, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [_EXAMPLE], "next_page_token": None}]})

    events: list[Event] = Field(description="The events of this page.")
    next_page_token: str | None = Field(
        description="`page_token` of the next page; null on the last one. Read newer events later with `after`."
    )
