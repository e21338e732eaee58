"""Query parameters of /v1/runs."""

from typing import Annotated, Literal

from pydantic import Field

from service.http.dependencies import Moment
from service.http.query_parameters import PageQuery, QueryModel
from service.runs.lookup import Filters
from service.runs.schemas import RunState
from service.shared.resource_names import Reference


class RunQuery(PageQuery):
    """Which runs to list."""

    state: Annotated[list[RunState], Field(max_length=6, description="In any of these states.")] = []  # noqa: RUF012 Pydantic copies it
    tag: Annotated[list[Reference], Field(max_length=20, description="With all of these tags.")] = []  # noqa: RUF012 Pydantic copies it
    dataset: Annotated[Reference | None, Field(description="On any version of this dataset.")] = None
    model: Annotated[Reference | None, Field(description="For this model.")] = None
    created_after: Annotated[Moment | None, Field(description="Made at this time or later.")] = None
    created_before: Annotated[Moment | None, Field(description="Made before this time.")] = None

    def filters(self) -> Filters:
        """The filters of the list, each state and tag once."""
        states, tags = list(dict.fromkeys(self.state)), list(dict.fromkeys(self.tag))
        return Filters(states, tags, self.dataset, self.model, self.created_after, self.created_before)


class MetricQuery(QueryModel):
    """Which metrics of a run to return."""

    name: Annotated[list[Reference], Field(max_length=200, description="Only these metrics.")] = []  # noqa: RUF012 Pydantic copies it
    points: Annotated[
        int, Field(ge=1, le=10_000, description="Maximum number of points per metric, evenly thinned.")
    ] = 1000


class EventQuery(QueryModel):
    """Which events of a run to return."""

    after: Annotated[int, Field(ge=0, le=2**53, description="Only events after this id.")] = 0
    limit: Annotated[int, Field(ge=1, le=1000, description="Maximum number of events; a stream has no limit.")] = 200


class LogQuery(QueryModel):
    """Which part of a run's log to return."""

    characters: Annotated[int, Field(ge=1, le=2**22, description="Length of the tail.")] = 65_536
    part: Annotated[Literal["tail", "all"], Field(description="all: from the first attempt on.")] = "tail"
