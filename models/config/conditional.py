"""The conditional part of a model: what draws of missing values come from."""

from typing import Literal

from pydantic import Field

from models.config.frozen import Frozen

LACKING = (
    "has no conditional part, which draws need: train one with `architecture.conditional`, or fit one to this version "
    "by a run with `init_from` and `training.fit` = `conditional`"
)
"""Of a model, after its name."""
# Codes of each row at least, and values of each of so few codes: the mean and the intervals need more than the few
# draws that a caller asks for.
MIN_CODES = 32
VALUES_PER_CODE = 4
# Vectors of real numbers are parts of the code if they have so many elements together.
MAX_VALUES = 64


def values_per_row(draws: int) -> int:
    """How many values of a modality are drawn for each row that asks for so many draws."""
    return draws if draws > MIN_CODES else MIN_CODES * VALUES_PER_CODE


class ConditionalFlowConfig(Frozen):
    """A flow over the latent codes, fitted after the model, from which `impute` draws."""

    start: Literal["regression", "normal"] = Field(
        default="regression",
        description="Where a draw starts. regression: at the linear regression of the code on what is given, with the "
        "spread that it leaves; up to 64 real numbers of vectors are then parts of the code. normal: at N(0, I).",
    )
    stacking: bool = Field(
        default=True,
        description="Whether the mean of draws of real numbers is a weighted mean of three predictions, of the flow, "
        "of the networks and of a linear regression; held-out rows choose the weights.",
    )
    hidden_features: int = Field(default=192, ge=1, le=4096, description="Width of the flow's layers, 1 to 4096.")
    layers: int = Field(default=3, ge=1, le=16, description="Number of the flow's hidden layers, 1 to 16.")
    steps: int = Field(
        default=5, ge=1, le=64, description="Steps from noise to a code, of two network evaluations each, 1 to 64."
    )


class SequenceFlowConfig(Frozen):
    """A flow over the codes of all steps of a sequence, fitted after the model, from which `impute` draws."""

    code_features: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Largest size of a step's code: the number of principal components of what is decoded for it.",
    )
    hidden_features: int = Field(default=64, ge=1, le=4096, description="Width of the flow's layers, 1 to 4096.")
    layers: int = Field(
        default=5, ge=1, le=16, description="Number of layers, 1 to 16; they join steps at distances 1, 3, 9, 27, 1, …"
    )
    steps: int = Field(
        default=5, ge=1, le=64, description="Steps from noise to a code, of two network evaluations each, 1 to 64."
    )
