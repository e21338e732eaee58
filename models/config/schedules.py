"""What changes while a model trains: beta, the weight of the KL divergence, and the learning rate."""

from typing import Annotated, Literal

from pydantic import Field

from models.config.frozen import Frozen


class ConstantBeta(Frozen):
    """The same weight of the KL divergence from the first step to the last."""

    schedule: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0, le=1000)


class LinearBeta(Frozen):
    """A straight ramp from `start` to `end` over the first part of the training; `end` from there on.

    Ends at 0.1, not at the evidence bound's 1: from 0.5 on the MM-VRNN's codes of the synthetic spirals collapse to the
    prior (KL below 0.3 nats a sequence instead of 267), and the squared error of one modality from the other is 0.10
    instead of 0.063.
    """

    schedule: Literal["linear"] = "linear"
    start: float = Field(default=0.0, ge=0, le=1000)
    end: float = Field(default=0.1, ge=0, le=1000)
    ramp: float = Field(default=0.2, gt=0, description="Length of the ramp, in `ramp_unit`.")
    ramp_unit: Literal["training", "epochs", "steps"] = Field(
        default="training", description="'training' is the whole of it: 0.2 is its first fifth."
    )


class CyclicalBeta(Frozen):
    """The ramp again and again: each cycle rises from `start` to `end` and then stays (arXiv:1903.10145)."""

    schedule: Literal["cyclical"] = "cyclical"
    start: float = Field(default=0.0, ge=0, le=1000)
    end: float = Field(default=0.1, ge=0, le=1000)
    cycles: int = Field(default=4, ge=1, le=10_000)
    ramp: float = Field(default=0.5, gt=0, le=1, description="Part of each cycle that rises.")
    unit: Literal["steps", "epochs"] = Field(default="steps", description="What beta changes with.")


BetaSchedule = Annotated[ConstantBeta | LinearBeta | CyclicalBeta, Field(discriminator="schedule")]


class LearningRateSchedule(Frozen):
    """A short linear rise to the full learning rate, then a way down to a part of it."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, le=0.5, description="The rise's part of the training.")
    floor: float = Field(default=0.02, ge=0, le=1, description="Part of the full rate at the last step.")
