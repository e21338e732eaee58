"""Query parameters of /v1/runs."""

from typing import Annotated, Literal

from pydantic import Field

from service.http.query_parameters import QueryModel, TimedPageQuery
from service.runs import selection_syntax
from service.runs.group_schemas import MAX_FILTERS, MetricCondition
from service.runs.schemas import RunState
from service.runs.selection import Filters, Order
from service.shared.resource_names import Reference


class RunQuery(TimedPageQuery):
    """Which runs to list, and in which order."""

    state: Annotated[list[RunState], Field(max_length=6, description="In any of these states.")] = []  # noqa: RUF012 Pydantic copies it
    tag: Annotated[list[Reference], Field(max_length=20, description="With all of these tags.")] = []  # noqa: RUF012 Pydantic copies it
    dataset: Annotated[Reference | None, Field(description="On any version of this dataset.")] = None
    model: Annotated[Reference | None, Field(description="For this model.")] = None
    filter: Annotated[
        list[MetricCondition],
        Field(
            max_length=MAX_FILTERS,
            description="Whose newest metrics meet all of these conditions: `metric.NAME`, one of `< <= > >= = !=`, "
            "and a number. The last operator counts, so a name may contain some, but not at its end. A run without the "
            "metric, or with a value that is not finite, meets none.",
            examples=[["metric.validation_loss<0.3"]],
        ),
    ] = []  # noqa: RUF012 Pydantic copies it
    sort: Annotated[
        Reference,
        Field(
            description="`created_at`, or `metric.NAME` for the newest value of a metric; with `-` in front from the "
            "largest to the smallest. Runs without a finite value of the metric come last, newest first.",
            examples=["metric.validation_loss"],
            json_schema_extra={"pattern": selection_syntax.ORDER_PATTERN},
        ),
    ] = selection_syntax.DEFAULT_ORDER

    def filters(self) -> Filters:
        """The filters of the list, each state and tag once. Raises BadInput."""
        states, tags = list(dict.fromkeys(self.state)), list(dict.fromkeys(self.tag))
        metrics = selection_syntax.metric_filters(list(dict.fromkeys(self.filter)))
        return Filters(states, tags, self.dataset, self.model, self.period, metrics)

    def order(self) -> Order:
        """The order of the list. Raises BadInput."""
        return selection_syntax.order(self.sort)


class ComparisonQuery(QueryModel):
    """Which runs to compare."""

    run: Annotated[
        list[Reference],
        Field(
            min_length=2,
            max_length=20,
            description="Id of a run, 2 to 20 times.",
            examples=[["run_1", "run_2"]],
            json_schema_extra={"uniqueItems": True},
        ),
    ]


class MetricQuery(QueryModel):
    """Which metrics of a run to return."""

    name: Annotated[list[Reference], Field(max_length=200, description="Only these metrics.")] = []  # noqa: RUF012 Pydantic copies it
    points: Annotated[
        int, Field(ge=1, le=10_000, description="Maximum number of points per metric, evenly thinned.")
    ] = 1000


class EventQuery(TimedPageQuery):
    """Which events of a run to return."""

    after: Annotated[int, Field(ge=0, le=2**53, description="Only events after this id.")] = 0


class LogQuery(QueryModel):
    """Which part of a run's log to return."""

    characters: Annotated[int, Field(ge=1, le=2**22, description="Length of the tail.")] = 65_536
    part: Annotated[Literal["tail", "all"], Field(description="all: from the first attempt on.")] = "tail"
