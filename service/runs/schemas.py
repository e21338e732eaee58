"""Request and response bodies of runs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from models.config import ArchitectureOptions, TrainingConfig
from models.config.presets import Preset
from service.registry.schemas import Description, Tags
from service.shared.errors import Fault
from service.shared.resource_names import Name

RunState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


class DatasetReference(BaseModel):
    """A dataset version; the newest one without a number."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)


class InitFromVersion(BaseModel):
    """A model version whose weights a training begins with."""

    model_config = ConfigDict(extra="forbid")

    model: Name
    version: int = Field(ge=1, le=2**31 - 1)


class InitFromCheckpoint(BaseModel):
    """A run's checkpoint whose weights a training begins with; its newest without a step."""

    model_config = ConfigDict(extra="forbid")

    run: Name
    step: int | None = Field(default=None, ge=0, le=2**53)


def _kind_of_start(start: Any) -> str:
    """The name of the schema that the value is checked against: faults then name the fields of one schema only."""
    if isinstance(start, BaseModel):
        return type(start).__name__
    return "InitFromCheckpoint" if isinstance(start, dict) and "run" in start else "InitFromVersion"


InitFrom = Annotated[
    Annotated[InitFromVersion, Tag("InitFromVersion")] | Annotated[InitFromCheckpoint, Tag("InitFromCheckpoint")],
    Discriminator(_kind_of_start),
]


class RunRequest(BaseModel):
    """Train a model on a dataset. Omitted fields have defaults, which the response shows."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"dataset": {"name": "digits"}, "model": "digits", "training": {"epochs": 30}}]
        },
    )

    dataset: DatasetReference
    model: Name = Field(description="Name in the registry under which the result becomes the next version.")
    preset: Preset | None = Field(
        default=None,
        description="Defaults for fields that the request omits: `cross-modal` for samples and `sequence-imputation` "
        "for sequences, unless another one is named.",
    )
    architecture: ArchitectureOptions | None = Field(
        default=None, description="By default an MM-VAE for static samples and an MM-VRNN for sequences."
    )
    training: TrainingConfig = TrainingConfig()
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
        description="Time from the first start to the end, including pauses and waits.",
    )
    tags: Tags = []
    description: Description | None = None


class RunChanges(BaseModel):
    """Changes of a run, which are allowed at any time. Omitted fields stay as they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"tags": ["baseline"], "description": "Labels dropped."}]},
    )

    tags: Tags | None = None
    description: Description | None = None


class Estimate(BaseModel):
    """The size of the model, and an estimate of the memory for its training. Null for custom networks and experts."""

    parameters: int | None
    memory_bytes: int | None


class RunError(BaseModel):
    """Why the run, or its last attempt, failed."""

    code: str
    detail: str
    errors: list[Fault] = []


class Run(BaseModel):
    """One training and its state. Later releases may add states."""

    id: str
    state: RunState
    phase: str | None
    progress: float = Field(description="From 0 to 1.")
    eta_seconds: float | None
    attempt: int
    failures: int
    preemptions: int = Field(description="Number of times that a worker stopped the run to shut down.")
    cancel_requested: bool
    pause_requested: bool
    queue_position: int | None = Field(default=None, description="Position in the queue; 1 is started next.")
    waiting_reason: str | None = Field(
        default=None, description="Why the run waits: `storage_full`, or a sentence for people."
    )
    error: RunError | None
    dataset: DatasetReference
    model: str
    version: int | None = Field(description="Number of the model version that this run made.")
    preset: str | None
    architecture: dict[str, Any] = Field(description="With its defaults, and the dataset's modalities.")
    training: dict[str, Any] = Field(description="With its defaults.")
    init_from: InitFrom | None
    seed: int
    priority: int
    devices: int
    max_attempts: int
    timeout_seconds: float | None
    retry_of: str | None = Field(description="The run that this run retries.")
    tags: list[str]
    description: str | None
    estimate: Estimate | None
    metrics: dict[str, float | None] = Field(description="The newest value of each metric; null if it is not finite.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Checkpoint(BaseModel):
    """A stored state of a training. It can be resumed, downloaded and registered as a model version."""

    step: int
    attempt: int
    reason: Literal["interval", "epoch", "stopped", "diverged"]
    sha256: str
    size_bytes: int
    created_at: datetime


class Checkpoints(BaseModel):
    """A run's checkpoints, newest first."""

    checkpoints: list[Checkpoint]


class RunPage(BaseModel):
    """One page of runs, newest first."""

    runs: list[Run]
    next_page_token: str | None


class RunEvent(BaseModel):
    """An event of a run."""

    id: int
    attempt: int
    level: Literal["info", "warning", "error"]
    type: str
    message: str
    data: dict[str, Any]
    created_at: datetime


class RunEvents(BaseModel):
    """The events of a run, oldest first."""

    events: list[RunEvent]


class MetricPoint(BaseModel):
    """One value of one metric."""

    step: int
    epoch: int
    attempt: int
    value: float | None
    not_finite: Literal["nan", "inf", "-inf"] | None = Field(
        description="The value that is null because it is not finite."
    )
    created_at: datetime


class MetricHistories(BaseModel):
    """The history of every metric, by name."""

    metrics: dict[str, list[MetricPoint]]
