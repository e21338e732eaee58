"""Bodies of calls about several runs at once: comparison and cancellation."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.registry.schemas import DrawScores
from service.runs import selection_syntax
from service.runs.examples import CANCELLED, COMPARISON
from service.runs.schemas import DatasetReference, RunState
from service.shared.period import Moment
from service.shared.resource_names import Reference

MAX_FILTERS = 20

MetricCondition = Annotated[Reference, Field(json_schema_extra={"pattern": selection_syntax.FILTER_PATTERN})]
UnfinishedState = Literal["queued", "running", "paused"]


class RunSelection(BaseModel):
    """The runs to cancel: those that have not ended and match every filter. At least one filter, or `all`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"tag": ["night"], "filter": ["metric.loss>10"]}, {"all": True}]},
    )

    state: list[UnfinishedState] = Field(default=[], max_length=3, description="In any of these states.")
    tag: list[Reference] = Field(default=[], max_length=20, description="With all of these tags.")
    dataset: Reference | None = Field(default=None, description="On any version of this dataset.")
    model: Reference | None = Field(default=None, description="For this model.")
    created_after: Moment | None = Field(default=None, description="Created at this time or later; with time zone.")
    created_before: Moment | None = Field(default=None, description="Created before this time; with time zone.")
    filter: list[MetricCondition] = Field(
        default=[],
        max_length=MAX_FILTERS,
        description="Whose newest metrics meet all of these conditions, such as `metric.loss>10`.",
    )
    all: bool = Field(default=False, description="Cancel every run that has not ended; instead of filters.")


class CancelledRuns(BaseModel):
    """The runs that a cancellation found, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [CANCELLED]})

    cancelled_count: int = Field(description="Number of `cancelled`.")
    stopping_count: int = Field(description="Number of `stopping`.")
    cancelled: list[str] = Field(description="Ids of the runs that were queued or paused: they are cancelled now.")
    stopping: list[str] = Field(
        description="Ids of the runs that are running: their workers were asked to stop, now or earlier."
    )


class ComparedRun(BaseModel):
    """One of the compared runs."""

    id: str = Field(description="Id of the run.")
    state: RunState = Field(description="State of the run.")
    model: str = Field(description="Name in the registry under which the result becomes a version.")
    version: int | None = Field(description="Number of the model version that this run made; null without one.")
    dataset: DatasetReference = Field(description="The dataset version that it trains on.")
    created_at: datetime = Field(description="When it was created.")


class ConfigurationDifference(BaseModel):
    """One place of the configuration in which the runs differ."""

    pointer: str = Field(description="JSON pointer into a run, such as `/training/epochs`.")
    values: dict[str, JsonValue] = Field(description="Run id -> its value. A run without this place is left out.")


class MetricComparison(BaseModel):
    """The newest values of one metric."""

    name: str = Field(description="Name of the metric.")
    values: dict[str, float | None] = Field(
        description="Run id -> its newest value, null if it is not finite. A run without the metric is left out."
    )


class EvaluatedCell(BaseModel):
    """What one run reaches for one target from one observed subset, as in its evaluation."""

    values: int = Field(description="Number of predicted values: samples, or time steps.")
    error: float | None = Field(description="In the units of the data.")
    baseline_error: float | None = Field(
        description="Error of predicting the training rows' mean, or their most frequent category."
    )
    linear_error: float | None = Field(
        default=None,
        description="Error of a linear prediction of the target; null where the evaluation has none.",
    )
    log_likelihood: float | None = Field(description="Mean predictive log-density per value, in nats.")
    coverage_90: float | None = Field(description="Fraction of the values inside the predicted 90 % interval.")
    draws: DrawScores | None = Field(default=None, description="Of the draws of a missing target.")


class EvaluationComparison(BaseModel):
    """One target, predicted from one observed subset of the modalities, by each of the runs."""

    observed: list[str] = Field(description="Names of the observed modalities.")
    target: str = Field(description="Name of the predicted modality.")
    metric: str = Field(description="The error metric of the target's likelihood.")
    runs: dict[str, EvaluatedCell] = Field(
        description="Run id -> its result. A run without an evaluation, or without this cell, is left out."
    )


class RunComparison(BaseModel):
    """Several runs side by side."""

    model_config = ConfigDict(json_schema_extra={"examples": [COMPARISON]})

    runs: list[ComparedRun] = Field(description="The runs in the order of the request.")
    configuration: list[ConfigurationDifference] = Field(description="The places of the configuration that differ.")
    metrics: list[MetricComparison] = Field(description="All metrics that one of the runs has reported, by name.")
    evaluation: list[EvaluationComparison] = Field(description="All cells of the evaluations of the runs.")
