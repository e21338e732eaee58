"""Request and response bodies of runs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from models.config import ArchitectureOptions, ModelConfig, TrainingConfig
from models.config.presets import Preset
from service.registry.schemas import Description, Tags
from service.runs import examples
from service.shared.documented_as import DocumentedAs
from service.shared.errors import Fault
from service.shared.resource_names import Name

RunState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


class DatasetReference(BaseModel):
    """A dataset version; the newest one without a number."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="Name of the dataset.")
    version: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Number of the version; null: the newest one, which the run then keeps.",
    )


class InitFromVersion(BaseModel):
    """A model version whose weights a training begins with."""

    model_config = ConfigDict(extra="forbid")

    model: Name = Field(description="Name of the model.")
    version: int = Field(ge=1, le=2**31 - 1, description="Number of the version.")


class InitFromCheckpoint(BaseModel):
    """A run's checkpoint whose weights a training begins with; its newest without a step."""

    model_config = ConfigDict(extra="forbid")

    run: Name = Field(description="Id of the run.")
    step: int | None = Field(default=None, ge=0, le=2**53, description="Step of the checkpoint; null: the newest one.")


def _kind_of_start(start: Any) -> str:
    """The name of the schema that the value is checked against: faults then name the fields of one schema only."""
    if isinstance(start, BaseModel):
        return type(start).__name__
    return "InitFromCheckpoint" if isinstance(start, dict) and "run" in start else "InitFromVersion"


InitFrom = Annotated[
    Annotated[InitFromVersion, Tag("InitFromVersion")] | Annotated[InitFromCheckpoint, Tag("InitFromCheckpoint")],
    Discriminator(_kind_of_start),
]


StoredConfig = Annotated[dict[str, Any], DocumentedAs(ModelConfig)]
StoredTraining = Annotated[dict[str, Any], DocumentedAs(TrainingConfig)]


class RunRequest(BaseModel):
    """Train a model on a dataset. Omitted fields have defaults, which the response shows."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"dataset": {"name": "digits"}, "model": "digits", "training": {"epochs": 30}}]
        },
    )

    dataset: DatasetReference = Field(description="The samples to train on.")
    model: Name = Field(description="Name in the registry under which the result becomes the next version.")
    preset: Preset | None = Field(
        default=None,
        description="Defaults for fields that the request omits: `cross-modal` for samples and `sequence-imputation` "
        "for sequences, unless another one is named.",
    )
    architecture: ArchitectureOptions | None = Field(
        default=None, description="By default an MM-VAE for static samples and an MM-VRNN for sequences."
    )
    training: TrainingConfig = Field(default=TrainingConfig(), description="How the model is trained.")
    init_from: InitFrom | None = Field(
        default=None, description="Start from the weights of a model of the same architecture and modalities."
    )
    seed: int = Field(
        default=0, ge=0, le=2**53 - 1, description="The same seed gives the same weights on the same kind of device."
    )
    priority: int = Field(default=0, ge=-100, le=100, description="A higher number is started first.")
    devices: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of devices that train the model together; one worker must have all of them.",
    )
    max_attempts: int = Field(
        default=3, ge=1, le=20, description="Number of failed attempts after which the run fails."
    )
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=90 * 86_400,
        description="Maximum time from the first start to the end, including pauses and waits, in seconds; "
        "null: no limit.",
    )
    tags: Tags = Field(default=[], description="At most 20 names, by which lists can be filtered.")
    description: Description | None = Field(default=None, description="Text for people, at most 2000 characters.")


class RunChanges(BaseModel):
    """Changes of a run, which are allowed at any time. Omitted fields stay as they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"tags": ["baseline"], "description": "Labels dropped."}]},
    )

    tags: Tags | None = Field(default=None, description="The new tags, at most 20. They replace all others.")
    description: Description | None = Field(default=None, description="The new text, at most 2000 characters.")


class Estimate(BaseModel):
    """The size of the model, and an estimate of the memory for its training. Null for custom networks and experts."""

    parameters: int | None = Field(description="Number of learned numbers.")
    memory_bytes: int | None = Field(description="Estimated memory for its training, in bytes.")


class RunError(BaseModel):
    """Why the run, or its last attempt, failed."""

    code: str = Field(description="Stable, for programs, such as `training_diverged`.")
    detail: str = Field(description="What failed and what to do, for people.")
    errors: list[Fault] = Field(default=[], description="All faults of the data, if there are several.")


class Run(BaseModel):
    """One training and its state. Later releases may add states."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RUN]})

    id: str = Field(description="Id of the run.")
    state: RunState = Field(description="queued, running and paused runs can still change; the others have ended.")
    phase: str | None = Field(
        description="What the running attempt does, such as `starting` or `training`; null if none runs."
    )
    progress: float = Field(description="Fraction of the training that is done, from 0 to 1.")
    eta_seconds: float | None = Field(description="Estimated time to the end, in seconds; null if unknown.")
    attempt: int = Field(description="Number of attempts that were started.")
    failures: int = Field(description="Number of attempts that failed. The run fails when it reaches `max_attempts`.")
    preemptions: int = Field(description="Number of times that a worker stopped the run to shut down.")
    cancel_requested: bool = Field(description="Whether the running attempt was asked to stop for good.")
    pause_requested: bool = Field(description="Whether the running attempt was asked to pause.")
    queue_position: int | None = Field(default=None, description="Position in the queue; 1 is started next.")
    waiting_reason: str | None = Field(
        default=None, description="Why the run waits: `storage_full`, or a sentence for people."
    )
    error: RunError | None = Field(description="Why the newest attempt failed; null if it did not.")
    dataset: DatasetReference = Field(description="The dataset version that it trains on.")
    model: str = Field(description="Name in the registry under which the result becomes a version.")
    version: int | None = Field(
        description="Number of the model version that this run made; null until it has succeeded."
    )
    preset: str | None = Field(description="The preset that gave the defaults.")
    architecture: StoredConfig = Field(
        description="The architecture with its defaults and the modalities of the dataset."
    )
    training: StoredTraining = Field(description="The training configuration with its defaults.")
    init_from: InitFrom | None = Field(description="Where the first weights come from; null: they are random.")
    seed: int = Field(description="Seed of all random numbers.")
    priority: int = Field(description="-100 to 100; a higher number is started first.")
    devices: int = Field(description="Number of devices that train the model together.")
    max_attempts: int = Field(description="Number of failed attempts after which the run fails.")
    timeout_seconds: float | None = Field(
        description="Maximum time from the first start to the end, in seconds; null: no limit."
    )
    retry_of: str | None = Field(description="Id of the run that this run retries.")
    tags: list[str] = Field(description="Names by which lists can be filtered, in alphabetical order.")
    description: str | None = Field(description="Text for people.")
    estimate: Estimate | None = Field(description="Size and memory of the model; null if unknown.")
    metrics: dict[str, float | None] = Field(
        description="Name of a metric -> its newest value; null if it is not finite."
    )
    created_at: datetime = Field(description="When the run was requested.")
    started_at: datetime | None = Field(description="When the first attempt started; null before.")
    finished_at: datetime | None = Field(description="When the run ended; null before.")


class Checkpoint(BaseModel):
    """A stored state of a training. It can be resumed, downloaded and registered as a model version."""

    step: int = Field(description="Number of optimiser steps done.")
    attempt: int = Field(description="Number of the attempt that stored it.")
    reason: Literal["interval", "epoch", "stopped", "diverged"] = Field(
        description="Why it was stored: regularly, at the end of an epoch, because the training was stopped, "
        "or because it diverged."
    )
    sha256: str = Field(description="SHA-256 of the file, hexadecimal.")
    size_bytes: int = Field(description="Size of the file, in bytes.")
    created_at: datetime = Field(description="When it was stored.")


class CheckpointPage(BaseModel):
    """One page of a run's checkpoints, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"checkpoints": [examples.CHECKPOINT], "next_page_token": None}]}
    )

    checkpoints: list[Checkpoint] = Field(description="The checkpoints of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class RunPage(BaseModel):
    """One page of runs in the order of `sort`, by default newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"runs": [examples.RUN], "next_page_token": None}]})

    runs: list[Run] = Field(description="The runs of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class RunEventData(BaseModel):
    """Details of an event. Events of the type `attempt_failed` have all of them, `worker_lost` the state."""

    state: RunState | None = Field(default=None, description="State of the run after the event.")
    code: str | None = Field(default=None, description="Error code of the attempt.")
    detail: str | None = Field(default=None, description="Why the attempt failed.")


class RunEvent(BaseModel):
    """An event of a run."""

    id: int = Field(description="Number of the event. It grows with time; other runs have numbers in between.")
    attempt: int = Field(description="Number of the attempt; 0 for events of no attempt.")
    level: Literal["info", "warning", "error"] = Field(description="How serious it is.")
    type: str = Field(description="Stable, for programs, such as `started` or `attempt_failed`.")
    message: str = Field(description="The event in one sentence, for people.")
    data: Annotated[dict[str, Any], DocumentedAs(RunEventData)] = Field(
        description="Details for programs; empty for most types."
    )
    created_at: datetime = Field(description="When it happened.")


class RunEventPage(BaseModel):
    """One page of the events of a run, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": examples.EVENTS, "next_page_token": None}]})

    events: list[RunEvent] = Field(description="The events of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class MetricPoint(BaseModel):
    """One value of one metric."""

    step: int = Field(description="Number of optimiser steps done.")
    epoch: int = Field(description="Number of the epoch, counted from 1.")
    attempt: int = Field(description="Number of the attempt that reported it.")
    value: float | None = Field(description="The value; null if it is not finite.")
    not_finite: Literal["nan", "inf", "-inf"] | None = Field(
        description="The value that is null because it is not finite."
    )
    created_at: datetime = Field(description="When it was stored.")


class MetricHistories(BaseModel):
    """The history of every metric, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metrics": examples.METRICS}]})

    metrics: dict[str, list[MetricPoint]] = Field(description="Name of a metric -> its values, in order of time.")
