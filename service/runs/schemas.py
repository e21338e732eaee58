"""Request and response bodies of runs."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import ArchitectureOptions, TrainingConfig
from service.shared.errors import Fault
from service.shared.names import Name

RunState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


class DatasetReference(BaseModel):
    """A dataset version; the newest one without a number."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)


class RunRequest(BaseModel):
    """Train a model on a dataset. What is left out has defaults, which the answer shows."""

    model_config = ConfigDict(extra="forbid")

    dataset: DatasetReference
    model: Name = Field(description="Name in the registry under which the result becomes the next version.")
    architecture: ArchitectureOptions | None = Field(
        default=None, description="By default an MM-VAE for static samples and an MM-VRNN for sequences."
    )
    training: TrainingConfig = TrainingConfig()
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="Same seed, same weights on the same kind of device.")


class RunError(BaseModel):
    """Why a run failed, or why its last attempt did."""

    code: str
    detail: str
    errors: list[Fault] = []


class Run(BaseModel):
    """One training and where it stands. More states may be added."""

    id: str
    state: RunState
    phase: str | None
    progress: float = Field(description="From 0 to 1.")
    eta_seconds: float | None
    attempt: int
    cancel_requested: bool
    error: RunError | None
    dataset: DatasetReference
    model: str
    version: int | None = Field(description="Version of the model that this run made.")
    architecture: dict[str, Any] = Field(description="With its defaults, and the dataset's modalities.")
    training: TrainingConfig
    seed: int
    metrics: dict[str, float | None] = Field(description="The newest value of each; null where it is not finite.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunPage(BaseModel):
    """A part of the list of runs, newest first."""

    runs: list[Run]
    next_page_token: str | None


class RunEvent(BaseModel):
    """Something that happened to a run."""

    id: int
    attempt: int
    level: Literal["info", "warning", "error"]
    type: str
    message: str
    data: dict[str, Any]
    created_at: datetime


class RunEvents(BaseModel):
    """A run's history, oldest first."""

    events: list[RunEvent]


class MetricPoint(BaseModel):
    """One value of one metric."""

    step: int
    epoch: int
    attempt: int
    value: float | None
    not_finite: Literal["nan", "inf", "-inf"] | None = Field(description="What the value is when it is null.")
    created_at: datetime


class RunMetrics(BaseModel):
    """The history of every metric, by name."""

    metrics: dict[str, list[MetricPoint]]
