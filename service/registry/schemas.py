"""Bodies of models, their versions and aliases."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from models.config import ModelConfig, TrainingConfig
from service.registry import examples
from service.shared.documented_as import DocumentedAs
from service.shared.resource_names import Name

# It starts with a letter: where both an alias and a version are accepted, digits are a version.
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"
AliasName = Annotated[str, StringConstraints(pattern=ALIAS_PATTERN)]
Tags = Annotated[list[Name], Field(max_length=20)]
Description = Annotated[str, Field(max_length=2000)]


class EvaluatedRows(BaseModel):
    """The rows that an evaluation predicted."""

    split: Literal["test", "validation", "training"] = Field(description="The split that the rows belong to.")
    count: int = Field(description="Number of the rows.")


class DrawScores(BaseModel):
    """How good the draws of a missing target are, by held-out values."""

    crps: float | None = Field(
        description="Continuous ranked probability score of an element, in the units of the data: 0 is best. Null for "
        "categories."
    )
    energy_score: float | None = Field(description="The same score of a whole value: a vector, or an image.")
    coverage_90: float | None = Field(description="Fraction of the elements inside their 90 % interval.")
    variance_ratio: float | None = Field(
        description="Variance of the draws over the squared error of their mean. 1 is right; draws below it vary too "
        "little."
    )


class EvaluationEntry(BaseModel):
    """One target, predicted from one observed subset of the modalities."""

    observed: list[str] = Field(description="Names of the modalities that the model was given.")
    target: str = Field(description="Name of the modality that it predicted.")
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
    linear_error: float | None = Field(
        default=None,
        description="Error of the training rows' ridge regression of the target on what is observed, or logistic "
        "regression for categories. Null for an observed target, with too few rows or too many numbers, and for other "
        "metrics.",
    )
    log_likelihood: float | None = Field(description="Mean predictive log-density per value, in nats.")
    coverage_90: float | None = Field(description="Fraction of the values inside the predicted 90 % interval.")
    draws: DrawScores | None = Field(
        default=None,
        description="Of the draws that `impute` answers. Null for an observed target, and without a conditional part.",
    )


class EvaluatedGap(BaseModel):
    """Steps of one modality that were taken away from sequences and predicted from everything else."""

    target: str = Field(description="Name of the modality.")
    pattern: str = Field(
        description="scattered: half of the steps. stretch: a quarter of the steps, one after another."
    )
    metric: str = Field(description="The error metric, as in the matrix.")
    values: int = Field(description="Number of predicted time steps.")
    error: float | None = Field(description="In the units of the data. Null if no step was taken away.")
    baseline_error: float | None = Field(
        description="Error of predicting the training rows' mean, or their most frequent category."
    )
    last_value_error: float | None = Field(description="Error of predicting the last value before the gap.")
    interpolation_error: float | None = Field(
        description="Error of a straight line between the values around the gap. Null for categories, for other "
        "metrics, and for a model with inference filter, which sees no value after the gap."
    )
    log_likelihood: float | None = Field(description="Mean predictive log-density per time step, in nats.")
    coverage_90: float | None = Field(description="Fraction of the values inside the predicted 90 % interval.")


class LatentFeature(BaseModel):
    """One latent feature, with all modalities observed."""

    kl: float | None = Field(description="Mean KL divergence from the prior, in nats per sample or time step.")
    active: bool = Field(description="Whether the posterior mean varies over the data.")


class Warning(BaseModel):
    """A possible problem of the model."""

    type: str = Field(description="Stable, for programs.")
    message: str = Field(description="The problem and what may help, for people.")


class Evaluation(BaseModel):
    """How well a run's model predicts every target from every observed subset of the modalities."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.EVALUATION]})

    rows: EvaluatedRows = Field(description="The rows that were predicted.")
    matrix: list[EvaluationEntry] = Field(description="One entry per observed subset and target.")
    gaps: list[EvaluatedGap] = Field(
        default_factory=list, description="Two entries per modality of a sequence model; none for samples."
    )
    elbo: float | None = Field(description="Evidence lower bound with beta = 1, in nats per row.")
    iwae_64: float | None = Field(description="Importance weighted bound of 64 draws, in nats per row.")
    latent: list[LatentFeature] = Field(description="One entry per latent feature.")
    active_units: int = Field(description="Number of active latent features.")
    expert_shares: dict[str, float] | None = Field(
        description="Fraction of the joint precision per modality, for products of experts."
    )
    warnings: list[Warning] = Field(description="Possible problems of the model.")


class Origin(BaseModel):
    """The version that an imported version was exported from."""

    model: str = Field(description="Name of the exported model.")
    version: int = Field(description="Number of the exported version.")
    artifact_sha256: str = Field(description="SHA-256 of its weights, hexadecimal.")


class Kernel(BaseModel):
    """The implementation that computed one operation of a training."""

    operation: str = Field(description="`elbo`, `posterior` or `gru_loop`.")
    serves: Literal["kernel", "reference", "none"] = Field(
        description="The kernel, the PyTorch reference, or none if the model does not use the operation."
    )
    reason: str | None = Field(description="Why the kernel was not used.")


class Lineage(BaseModel):
    """The origin of a version: data, run and code, of this service or of the service that exported it."""

    run: str | None = Field(description="Id of the run that trained it.")
    attempt: int | None = Field(description="Number of the attempt that finished.")
    step: int | None = Field(
        default=None, description="Step of the registered checkpoint; null for the result of a run."
    )
    dataset: str | None = Field(description="Name of the dataset.")
    dataset_version: int | None = Field(description="Number of the dataset version.")
    dataset_sha256: str | None = Field(description="SHA-256 of the stored samples, hexadecimal.")
    seed: int | None = Field(description="Seed of the run.")
    training: Annotated[dict[str, Any], DocumentedAs(TrainingConfig)] | None = Field(
        default=None, description="The run's training configuration, in the form of the release that trained it."
    )
    libraries: dict[str, str] = Field(description="Name of a library -> its version at the training.")
    git_revision: str | None = Field(default=None, description="Revision of the code that trained it, if known.")
    kernels: list[Kernel] | None = Field(
        default=None, description="What computed each operation of the training; null if it was not recorded."
    )
    imported_from: Origin | None = Field(
        default=None, description="The version that was exported; null if it was trained here."
    )


class SignatureInput(BaseModel):
    """A modality as an input of inference. `-1` in a shape is any length."""

    name: str = Field(description="Name of the modality.")
    dtype: str = Field(description="Type of the values: `float32`, or `int64` for categories.")
    shape: list[int] = Field(description="Its dimensions: rows, steps of sequences, and those of a value.")
    optional: bool = Field(default=True, description="Always true: a request may lack any modality.")
    likelihood: str | None = Field(description="Density that models the values.")
    categories: int | None = Field(description="Number of categories; null for numbers.")
    category_names: list[int] | list[str] | None = Field(
        default=None,
        description="In the order of the probabilities. Inputs may use the names, and responses do. If the names are "
        "numbers, a number in an input is a name. If they are texts, or null, it is the index of a category, from 0.",
    )


class Signature(BaseModel):
    """The inputs of a version and the size of its codes. A request may have any subset of the inputs."""

    inputs: list[SignatureInput] = Field(description="One input per modality.")
    latent_features: int = Field(description="Number of latent features of a sample or time step.")


class VersionRequest(BaseModel):
    """Register a checkpoint of a run as a version; without a step, the newest checkpoint."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"run": "run_01KA3M5Q7R9T2V4X6Z8B0D1F3H", "step": 500}]}
    )

    run: Name = Field(description="Id of the run.")
    step: int | None = Field(default=None, ge=0, le=2**53, description="Step of the checkpoint; null: the newest one.")


class Changes(BaseModel):
    """Changes of a model or of a version, which are allowed at any time. Omitted fields stay as they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"tags": ["spring"], "description": "Trained on both clinics."}]},
    )

    tags: Tags | None = Field(default=None, description="The new tags, at most 20. They replace all others.")
    description: Description | None = Field(default=None, description="The new text, at most 2000 characters.")


class AliasRequest(BaseModel):
    """The version that an alias names from now on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 3}]})

    version: int = Field(ge=1, le=2**31 - 1, description="Number of the version.")


class Alias(BaseModel):
    """A movable name of a version."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ALIAS]})

    model: str = Field(description="Name of the model.")
    alias: str = Field(description="Name of the alias.")
    version: int = Field(description="The version that requests to this alias use now.")
    pending_version: int | None = Field(
        description="The version that it names as soon as every inference process has loaded it."
    )
    error: str | None = Field(description="Why the last change of the version failed.")
    revision: int = Field(description="Number of changes of the version; the ETag.")
    updated_at: datetime = Field(description="When the alias was last changed.")


class ModelVersion(BaseModel):
    """An immutable trained artifact with its description."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.MODEL_VERSION]})

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version, counted from 1.")
    description: str | None = Field(description="Text for people.")
    tags: list[str] = Field(description="Names that users gave it.")
    aliases: list[str] = Field(description="Names of the aliases that name it now.")
    signature: Signature = Field(description="The inputs of inference, and the size of the codes.")
    config: ModelConfig = Field(description="Architecture and modalities; any subset of them is a valid input.")
    metrics: Annotated[dict[str, Any], DocumentedAs(dict[str, float | None])] = Field(
        description="Name of a metric -> its value at the epoch or checkpoint of these weights; null if it is "
        "not finite."
    )
    evaluation: Evaluation | None = Field(description="On rows that were not trained on; null for a checkpoint.")
    lineage: Lineage = Field(description="Where it comes from.")
    sha256: str = Field(description="SHA-256 of the weights, hexadecimal.")
    size_bytes: int = Field(description="Size of the weights, in bytes.")
    created_at: datetime = Field(description="When the version was made.")
    deleted_at: datetime | None = Field(description="When it was deleted; null if it is not.")


class Model(BaseModel):
    """A name in the registry."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.MODEL]})

    name: str = Field(description="Name of the model.")
    description: str | None = Field(description="Text for people.")
    tags: list[str] = Field(description="Names that users gave it.")
    latest_version: int | None = Field(description="Number of the newest version that is not deleted.")
    aliases: dict[str, int] = Field(description="The version that each alias names.")
    created_at: datetime = Field(description="When its first version was made.")
    deleted_at: datetime | None = Field(description="When it was deleted; null if it is not.")


class ModelPage(BaseModel):
    """One page of models, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"models": [examples.MODEL], "next_page_token": None}]})

    models: list[Model] = Field(description="The models of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class ModelVersionPage(BaseModel):
    """One page of a model's versions, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"versions": [examples.MODEL_VERSION], "next_page_token": None}]}
    )

    versions: list[ModelVersion] = Field(description="The versions of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class AliasPage(BaseModel):
    """One page of a model's aliases, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"aliases": [examples.ALIAS], "next_page_token": None}]})

    aliases: list[Alias] = Field(description="The aliases of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")
