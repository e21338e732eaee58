"""Bodies of the operations, for the OpenAPI document only: requests are decoded without Pydantic."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.inference import examples
from service.inference.decoding import (
    DEFAULT_LEVEL,
    MAX_DRAWS,
    MAX_QUANTILES,
    MAX_SECONDS,
    MAX_SEED,
    MAX_STEPS,
    MAX_TARGETS,
)

Inputs = dict[str, list[Any]]
Targets = Annotated[list[str], Field(min_length=1, max_length=MAX_TARGETS)]
EXAMPLE: dict[str, Any] = {"image": [[[[0.0, 12.0], [3.0, 16.0]]], None], "label": [None, 7]}


class _Rows(BaseModel):
    """Samples: one column per modality, any subset of the modalities."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"inputs": EXAMPLE}]})

    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SECONDS,
        description="A request without an answer after this time, in seconds, gets 504; null: no limit.",
    )
    inputs: Inputs = Field(
        description="Modality -> one value per sample, null where the sample lacks it. A sequence is a list of "
        "steps, null where a step lacks it.",
    )


class EncodeRequest(_Rows):
    """Samples; or a piece of sequences, and the state that it continues from."""

    state: str | None = Field(
        default=None,
        description="For sequences in pieces: null with the first piece, then the state of the previous answer.",
    )


class ScoreRequest(_Rows):
    """Samples to score."""

    n_samples: int = Field(
        default=0, ge=0, le=MAX_DRAWS, description="0 scores at the posterior mean; more average draws."
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the draws.")


class SampleRequest(BaseModel):
    """How many samples or sequences to draw from the prior."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rows": 4, "seed": 7}]})

    rows: int = Field(
        default=1, ge=1, description="Number of samples or sequences to draw. The installation limits it."
    )
    steps: int = Field(default=0, ge=0, le=MAX_STEPS, description="Length of every sequence; 0 for models of samples.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the draws.")
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SECONDS,
        description="A request without an answer after this time, in seconds, gets 504; null: no limit.",
    )


class ReconstructRequest(EncodeRequest):
    """Samples, and which modalities to predict for them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": EXAMPLE, "targets": ["label"]}]})

    targets: Targets | None = Field(default=None, description="By default all modalities.")
    n_samples: int = Field(
        default=0, ge=0, le=MAX_DRAWS, description="0 decodes the posterior mean; more averages over that many draws."
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the draws.")


class ImputeRequest(EncodeRequest):
    """Samples or sequences with gaps, and which modalities to complete."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": EXAMPLE, "targets": ["label"], "draws": 5, "seed": 7}]}
    )

    targets: Targets | None = Field(
        default=None,
        description="Modalities to complete, each of them missing somewhere in the request. By default all that are.",
    )
    draws: int = Field(
        default=0, ge=0, le=MAX_DRAWS, description="Joint completions of each row; 0 answers values and intervals only."
    )
    level: float = Field(
        default=DEFAULT_LEVEL,
        gt=0,
        lt=1,
        description="Probability with which a missing number or count lies between `lower` and `upper`.",
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the draws.")


class ForecastRequest(EncodeRequest):
    """Sequences, and how many steps to forecast."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": {"x": [[0.1, 0.2, None]]}, "horizon": 5}]})

    horizon: int = Field(default=1, ge=1, le=MAX_STEPS, description="Steps to forecast.")
    targets: Targets | None = Field(default=None, description="By default all modalities.")
    n_samples: int = Field(
        default=100, ge=0, le=MAX_DRAWS, description="Paths to draw; 0 follows the means, without quantiles."
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the paths.")
    quantiles: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=[0.05, 0.5, 0.95],
        min_length=1,
        max_length=MAX_QUANTILES,
        description="Quantiles of the values over paths.",
    )


class EncodeResponse(BaseModel):
    """Posterior mean and standard deviation: (rows, latent), or a list of (steps, latent) for sequences."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ENCODED]})

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version that answered.")
    request_id: str = Field(description="Id of the request in the log of the server.")
    mean: list[Any] = Field(
        description="Posterior mean of each row: a list of latent features, for sequences one list per time step."
    )
    standard_deviation: list[Any] = Field(description="Posterior standard deviation, of the same form.")
    state: str | None = Field(default=None, description="The state for the next piece, if the request had a `state`.")


class ReconstructResponse(BaseModel):
    """The predictive distribution of each target, in the outputs of its likelihood.

    gaussian, laplace: mean and standard_deviation. poisson, negative_binomial: rate and standard_deviation. bernoulli:
    probability. categorical: probabilities and category, and category_name if the signature names the categories. An
    installed likelihood has its own outputs.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RECONSTRUCTED]})

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version that answered.")
    request_id: str = Field(description="Id of the request in the log of the server.")
    outputs: dict[str, dict[str, list[Any]]] = Field(
        description="Name of a target -> name of an output of its likelihood -> one value per row; for "
        "sequences one list per row with one value per step."
    )


class ImputeResponse(BaseModel):
    """Complete values of each target, and the distributions of what was missing.

    Numbers and counts also have `lower` and `upper`, which equal the value where it is observed. `draws` of a row are n
    values, of a sequence n lists of steps; the n-th draws of all targets belong together.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.IMPUTED]})

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version that answered.")
    request_id: str = Field(description="Id of the request in the log of the server.")
    level: float = Field(description="Probability of the intervals, as in the request.")
    calibration: list[Literal["none", "pooled", "pattern"]] = Field(
        description="How the width of each row's intervals and draws was fitted on held-out rows: `pattern`, on rows "
        "that lack the same modalities; `pooled`, on rows that lack any; `none`, not at all."
    )
    completed: dict[str, dict[str, list[Any]]] = Field(
        description="Name of a target -> `value`, `lower`, `upper`, `draws`, or name of an output of its likelihood as "
        "`reconstruct` has it -> one item per row; for sequences a list with one value per step. Categories that the "
        "signature names also have `value_name` and `draws_name`."
    )


class ScoreResponse(BaseModel):
    """The evidence bound in nats: bound = sum of log_likelihood over modalities - kl; per step for sequences."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SCORED]})

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version that answered.")
    request_id: str = Field(description="Id of the request in the log of the server.")
    bound: list[Any] = Field(
        description="Evidence bound of each row, in nats; for sequences one list per row with one number per step."
    )
    log_likelihood: dict[str, list[Any]] = Field(
        description="Name of an observed modality -> log-likelihood of its values, in nats, of the same form; "
        "0 where it is absent."
    )
    kl: list[Any] = Field(description="KL divergence of the posterior from the prior, in nats, of the same form.")


class ForecastResponse(BaseModel):
    """For every target the outputs of its likelihood at the forecast steps: (rows, horizon, ...).

    Numbers and counts also have `quantiles`: (rows, horizon, ..., quantiles).
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.FORECAST]})

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version that answered.")
    request_id: str = Field(description="Id of the request in the log of the server.")
    outputs: dict[str, dict[str, list[Any]]] = Field(
        description="Name of a target -> name of an output of its likelihood -> one list per row with one "
        "value per forecast step."
    )


class SampleResponse(BaseModel):
    """For every modality its drawn `value`, and the distribution that it was drawn from.

    Categories that the signature names also have `value_name`.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SAMPLED]})

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version that answered.")
    request_id: str = Field(description="Id of the request in the log of the server.")
    outputs: dict[str, dict[str, list[Any]]] = Field(
        description="Name of a modality -> `value`, or name of an output of its likelihood -> one value per "
        "row; for sequences one list per row with one value per step."
    )
