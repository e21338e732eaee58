"""Response bodies of models and their versions."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.config import ModelConfig
from service.shared.names import Name


class Lineage(BaseModel):
    """What a version was made of."""

    run: str
    attempt: int
    step: int | None = Field(
        default=None, description="Of the checkpoint that was registered; null for a run's result."
    )
    dataset: str
    dataset_version: int
    dataset_sha256: str
    seed: int
    libraries: dict[str, str]


class VersionRequest(BaseModel):
    """Make a version of a run's checkpoint; of its newest without a step."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"run": "run_01KA3M5Q7R9T2V4X6Z8B0D1F3H", "step": 500}]}
    )

    run: Name
    step: int | None = Field(default=None, ge=0, le=2**53)


class ModelVersion(BaseModel):
    """An immutable trained artifact."""

    model: str
    version: int
    config: ModelConfig = Field(description="Architecture and modalities; any subset of them is a valid input.")
    metrics: dict[str, Any]
    lineage: Lineage
    sha256: str
    size_bytes: int
    created_at: datetime


class Model(BaseModel):
    """A name in the registry."""

    name: str
    latest_version: int
    created_at: datetime


class ModelPage(BaseModel):
    """A part of the list of models, newest first."""

    models: list[Model]
    next_page_token: str | None


class ModelVersionPage(BaseModel):
    """A part of the list of a model's versions, newest first."""

    versions: list[ModelVersion]
    next_page_token: str | None
