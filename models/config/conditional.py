"""The conditional part of a model: what draws of missing values come from."""

from pydantic import Field

from models.config.frozen import Frozen


class ConditionalFlowConfig(Frozen):
    """A flow over the latent codes, fitted after the model, from which `impute` draws."""

    hidden_features: int = Field(default=256, ge=1, le=4096, description="Width of the flow's layers, 1 to 4096.")
    layers: int = Field(default=3, ge=1, le=16, description="Number of the flow's hidden layers, 1 to 16.")
    steps: int = Field(
        default=5, ge=1, le=64, description="Steps from noise to a code, of two network evaluations each, 1 to 64."
    )
