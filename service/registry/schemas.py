"""Bodies of models, their versions and aliases."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from models.config import ModelConfig
from service.shared.resource_names import Name

# It starts with a letter: where both an alias and a version are accepted, digits are a version.
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"
AliasName = Annotated[str, StringConstraints(pattern=ALIAS_PATTERN)]
Tags = Annotated[list[Name], Field(max_length=20)]
Description = Annotated[str, Field(max_length=2000)]


class EvaluatedRows(BaseModel):
    """The rows that an evaluation predicted."""

    split: Literal["test", "validation", "training"]
    count: int


class EvaluationEntry(BaseModel):
    """One target, predicted from one observed subset of the modalities."""

    observed: list[str]
    target: str
    metric: str = Field(
        description="The error metric of the target's likelihood: error_rate for categories, root_mean_squared_error "
        "for other values, or a metric of an installed likelihood."
    )
    values: int = Field(description="Number of predicted values: samples, or time steps.")
    error: float | None = Field(
        description="In the units of the data. Null if no row has both the observed modalities and the target."
    )
    baseline_error: float | None = Field(
        description="Error of predicting the training rows' mean, or their most frequent category."
    )
    log_likelihood: float | None = Field(description="Mean predictive log-density per value, in nats.")
    coverage_90: float | None = Field(description="Fraction of the values inside the predicted 90 % interval.")


class LatentFeature(BaseModel):
    """One latent feature, with all modalities observed."""

    kl: float | None = Field(description="Mean KL divergence from the prior, in nats per sample or time step.")
    active: bool = Field(description="Whether the posterior mean varies over the data.")


class Warning(BaseModel):
    """A possible problem of the model."""

    type: str
    message: str


class Evaluation(BaseModel):
    """How well a run's model predicts every target from every observed subset of the modalities."""

    rows: EvaluatedRows
    matrix: list[EvaluationEntry]
    elbo: float | None = Field(description="Evidence lower bound with beta = 1, in nats per row.")
    iwae_64: float | None = Field(description="Importance weighted bound of 64 draws, in nats per row.")
    latent: list[LatentFeature]
    active_units: int
    expert_shares: dict[str, float] | None = Field(
        description="Fraction of the joint precision per modality, for products of experts."
    )
    warnings: list[Warning]


class Origin(BaseModel):
    """The version that an imported version was exported from."""

    model: str
    version: int
    artifact_sha256: str


class Kernel(BaseModel):
    """The implementation that computed one operation of a training."""

    operation: str = Field(description="`elbo`, `posterior` or `gru_loop`.")
    serves: Literal["kernel", "reference", "none"] = Field(
        description="The kernel, the PyTorch reference, or none if the model does not use the operation."
    )
    reason: str | None = Field(description="Why the kernel was not used.")


class Lineage(BaseModel):
    """The origin of a version: data, run and code, of this service or of the service that exported it."""

    run: str | None
    attempt: int | None
    step: int | None = Field(
        default=None, description="Step of the registered checkpoint; null for the result of a run."
    )
    dataset: str | None
    dataset_version: int | None
    dataset_sha256: str | None
    seed: int | None
    training: dict[str, Any] | None = Field(default=None, description="The run's training configuration.")
    libraries: dict[str, str]
    git_revision: str | None = Field(default=None, description="Revision of the code that trained it, if known.")
    kernels: list[Kernel] | None = Field(
        default=None, description="What computed each operation of the training; null if it was not recorded."
    )
    imported_from: Origin | None = None


class SignatureInput(BaseModel):
    """A modality as an input of inference. `-1` in a shape is any length."""

    name: str
    dtype: str
    shape: list[int]
    optional: bool = True
    likelihood: str | None
    categories: int | None
    category_names: list[int] | list[str] | None = Field(
        default=None,
        description="In the order of the probabilities. Inputs may use the names, and responses do. If the names are "
        "numbers, a number in an input is a name. If they are texts, or null, it is the index of a category, from 0.",
    )


class Signature(BaseModel):
    """The inputs of a version and the size of its codes. A request may have any subset of the inputs."""

    inputs: list[SignatureInput]
    latent_features: int


class VersionRequest(BaseModel):
    """Register a checkpoint of a run as a version; without a step, the newest checkpoint."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"run": "run_01KA3M5Q7R9T2V4X6Z8B0D1F3H", "step": 500}]}
    )

    run: Name
    step: int | None = Field(default=None, ge=0, le=2**53)


class Changes(BaseModel):
    """Changes of a model or of a version, which are allowed at any time. Omitted fields stay as they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"tags": ["spring"], "description": "Trained on both clinics."}]},
    )

    tags: Tags | None = None
    description: Description | None = None


class AliasRequest(BaseModel):
    """The version that an alias names from now on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 3}]})

    version: int = Field(ge=1, le=2**31 - 1)


class Alias(BaseModel):
    """A movable name of a version."""

    model: str
    alias: str
    version: int = Field(description="The version that requests to this alias use now.")
    pending_version: int | None = Field(
        description="The version that it names as soon as every inference process has loaded it."
    )
    error: str | None = Field(description="Why the last change of the version failed.")
    revision: int = Field(description="Number of changes of the version; the ETag.")
    updated_at: datetime


class ModelVersion(BaseModel):
    """An immutable trained artifact with its description."""

    model: str
    version: int
    description: str | None
    tags: list[str]
    aliases: list[str]
    signature: Signature
    config: ModelConfig = Field(description="Architecture and modalities; any subset of them is a valid input.")
    metrics: dict[str, Any]
    evaluation: Evaluation | None = Field(description="On rows that were not trained on; null for a checkpoint.")
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
    latest_version: int | None = Field(description="Number of the newest version that is not deleted.")
    aliases: dict[str, int] = Field(description="The version that each alias names.")
    created_at: datetime
    deleted_at: datetime | None


class ModelPage(BaseModel):
    """One page of models, newest first."""

    models: list[Model]
    next_page_token: str | None


class ModelVersionPage(BaseModel):
    """One page of a model's versions, newest first."""

    versions: list[ModelVersion]
    next_page_token: str | None


class AliasList(BaseModel):
    """The aliases of a model, by name."""

    aliases: list[Alias]
