"""Bodies of models, their versions and aliases."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from models.config import ModelConfig
from service.shared.resource_names import Name

# A letter first: where either can stand, digits are a version.
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"
AliasName = Annotated[str, StringConstraints(pattern=ALIAS_PATTERN)]
Tags = Annotated[list[Name], Field(max_length=20)]
Description = Annotated[str, Field(max_length=2000)]


class EvaluatedRows(BaseModel):
    """The rows that an evaluation looked at."""

    split: Literal["test", "validation", "training"]
    count: int


class EvaluationEntry(BaseModel):
    """One target, predicted from one observed subset of the modalities."""

    observed: list[str]
    target: str
    metric: str = Field(
        description="As the target's likelihood measures errors: error_rate of categories, root_mean_squared_error of "
        "other values, or a metric that an installed likelihood names."
    )
    values: int = Field(description="How many values were predicted: samples, or time steps.")
    error: float | None = Field(description="In the data's units. Null where no row has both.")
    baseline_error: float | None = Field(description="Of the training rows' mean, or most frequent category.")
    log_likelihood: float | None = Field(description="Mean predictive log-density of a value, in nats.")
    coverage_90: float | None = Field(description="Part of the numbers inside the predicted 90 % interval.")


class LatentFeature(BaseModel):
    """One latent feature, all modalities observed."""

    kl: float | None = Field(description="Mean KL divergence from the prior, in nats a sample or time step.")
    active: bool = Field(description="Whether its posterior mean varies over the data.")


class Warning(BaseModel):
    """Something about the model that deserves a look."""

    type: str
    message: str


class Evaluation(BaseModel):
    """How good a run's model is: every observed subset of the modalities against every target."""

    rows: EvaluatedRows
    matrix: list[EvaluationEntry]
    elbo: float | None = Field(description="Evidence lower bound with beta = 1, in nats a row.")
    iwae_64: float | None = Field(description="Importance weighted bound of 64 draws, in nats a row.")
    latent: list[LatentFeature]
    active_units: int
    expert_shares: dict[str, float] | None = Field(
        description="Each modality's part of the joint precision, for products of experts."
    )
    warnings: list[Warning]


class Origin(BaseModel):
    """Where an imported version was exported."""

    model: str
    version: int
    artifact_sha256: str


class Kernel(BaseModel):
    """What computed one operation of a training."""

    operation: str = Field(description="`elbo`, `posterior` or `gru_loop`.")
    serves: Literal["kernel", "reference", "none"] = Field(
        description="The kernel, the PyTorch reference, or none where the model does not use the operation."
    )
    reason: str | None = Field(description="Why it was not the kernel.")


class Lineage(BaseModel):
    """What a version was made of, by this service or by the one that it was imported from."""

    run: str | None
    attempt: int | None
    step: int | None = Field(
        default=None, description="Of the checkpoint that was registered; null for a run's result."
    )
    dataset: str | None
    dataset_version: int | None
    dataset_sha256: str | None
    seed: int | None
    training: dict[str, Any] | None = Field(default=None, description="The run's training configuration.")
    libraries: dict[str, str]
    git_revision: str | None = Field(default=None, description="Of the code that trained it, where that was known.")
    kernels: list[Kernel] | None = Field(
        default=None, description="What computed each operation of the training; null where that was not recorded."
    )
    imported_from: Origin | None = None


class SignatureInput(BaseModel):
    """A modality as inference takes it. `-1` in a shape is any length."""

    name: str
    dtype: str
    shape: list[int]
    optional: bool = True
    likelihood: str | None
    categories: int | None
    category_names: list[int] | list[str] | None = Field(
        default=None,
        description="In the order of the probabilities. Inputs may say these, and answers do. Where they are numbers, "
        "a number that goes in is a name; where they are texts, or there are none, it counts categories from 0.",
    )


class Signature(BaseModel):
    """What a version takes and what its codes are like. Any subset of the inputs will do."""

    inputs: list[SignatureInput]
    latent_features: int


class VersionRequest(BaseModel):
    """Make a version of a run's checkpoint; of its newest without a step."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"run": "run_01KA3M5Q7R9T2V4X6Z8B0D1F3H", "step": 500}]}
    )

    run: Name
    step: int | None = Field(default=None, ge=0, le=2**53)


class Changes(BaseModel):
    """What can be changed of a model or of a version, at any time. What is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"tags": ["spring"], "description": "Trained on both clinics."}]},
    )

    tags: Tags | None = None
    description: Description | None = None


class AliasRequest(BaseModel):
    """Which version an alias is to name."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 3}]})

    version: int = Field(ge=1, le=2**31 - 1)


class Alias(BaseModel):
    """A movable name of a version."""

    model: str
    alias: str
    version: int = Field(description="What requests by this alias are answered with now.")
    pending_version: int | None = Field(description="What it moves to as soon as every engine has loaded it.")
    error: str | None = Field(description="Why it did not move when it was told to last.")
    revision: int = Field(description="Counts how often it was told to move; its ETag.")
    updated_at: datetime


class ModelVersion(BaseModel):
    """An immutable trained artifact, and what is said about it."""

    model: str
    version: int
    description: str | None
    tags: list[str]
    aliases: list[str]
    signature: Signature
    config: ModelConfig = Field(description="Architecture and modalities; any subset of them is a valid input.")
    metrics: dict[str, Any]
    evaluation: Evaluation | None = Field(description="On rows it has not seen; null for a checkpoint.")
    lineage: Lineage
    sha256: str
    size_bytes: int
    created_at: datetime
    deleted_at: datetime | None


class Model(BaseModel):
    """A name in the registry."""

    name: str
    description: str | None
    tags: list[str]
    latest_version: int | None = Field(description="The newest that is not deleted.")
    aliases: dict[str, int] = Field(description="The version that each alias names.")
    created_at: datetime
    deleted_at: datetime | None


class ModelPage(BaseModel):
    """A part of the list of models, newest first."""

    models: list[Model]
    next_page_token: str | None


class ModelVersionPage(BaseModel):
    """A part of the list of a model's versions, newest first."""

    versions: list[ModelVersion]
    next_page_token: str | None


class AliasList(BaseModel):
    """A model's aliases by name."""

    aliases: list[Alias]
