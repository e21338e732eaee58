"""Bodies of inference calls, for the OpenAPI document: the hot path carries values past Pydantic."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Inputs = dict[str, list[Any]]
EXAMPLE: dict[str, Any] = {"image": [[[[0.0, 12.0], [3.0, 16.0]]], None], "label": [None, 7]}


class EncodeRequest(BaseModel):
    """Samples, a column a modality, any subset of them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"inputs": EXAMPLE}]})

    inputs: Inputs = Field(
        description="Modality -> one value a sample, null where the sample lacks it. A sequence is a list of steps, "
        "null where a step lacks it.",
    )


class ReconstructRequest(EncodeRequest):
    """Samples, and which modalities to predict for them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": EXAMPLE, "targets": ["label"]}]})

    targets: list[str] | None = Field(default=None, description="By default all modalities.")
    n_samples: int = Field(
        default=0, ge=0, le=1000, description="0 decodes the posterior mean; more averages over that many draws."
    )
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="Of the draws.")


class EncodeResponse(BaseModel):
    """Posterior mean and standard deviation: (rows, latent), or a list of (steps, latent) for sequences."""

    model: str
    version: int
    request_id: str
    mean: list[Any]
    standard_deviation: list[Any]


class ReconstructResponse(BaseModel):
    """For every target what its likelihood has.

    Gaussian: mean and standard_deviation. Bernoulli: probability. Categorical: probabilities and category.
    """

    model: str
    version: int
    request_id: str
    outputs: dict[str, dict[str, list[Any]]]
