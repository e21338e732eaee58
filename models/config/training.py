"""How a model is trained, whatever its architecture."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, PositiveFloat, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from models.config import held_out as held_out_rows
from models.config.architecture import MMVAEConfig, MMVRNNConfig
from models.config.frozen import Frozen, Misfit
from models.config.schedules import BetaSchedule, CyclicalBeta, LearningRateSchedule, LinearBeta

Probability = Annotated[float, Field(ge=0, le=1)]
ByModality = Annotated[dict[str, PositiveFloat], Field(max_length=60)]

MAX_VALIDATION_ROWS = 100_000


class ELBO(Frozen):
    """The evidence lower bound of all targets, given the inputs that modality dropout keeps."""

    name: Literal["elbo"] = Field(default="elbo", description="Selects this objective.")


class SubsampledELBO(Frozen):
    """The mean of the bounds given all modalities, each one alone, and random subsets (arXiv:1802.05335, eq. 5).

    Each subset predicts all targets; in the paper, only those it observes. It replaces modality dropout. A step costs
    1 + modalities + subsets times as much.
    """

    name: Literal["subsampled_elbo"] = Field(default="subsampled_elbo", description="Selects this objective.")
    subsets: int = Field(
        default=1, ge=0, le=64, description="Random subsets per row, beside all modalities and each alone."
    )


class IWAE(Frozen):
    """The importance weighted bound, stratified over a mixture's components (arXiv:1509.00519, arXiv:2003.01687)."""

    name: Literal["iwae"] = Field(default="iwae", description="Selects this objective.")
    particles: int = Field(default=8, ge=1, le=256, description="Draws from each component of the posterior.")


Objective = Annotated[ELBO | SubsampledELBO | IWAE, Field(discriminator="name")]


class SubsetDropout(Frozen):
    """With `probability`, a row keeps one of the incomplete subsets of its modalities, each equally likely."""

    strategy: Literal["subsets"] = Field(default="subsets", description="Selects this strategy.")
    probability: Probability = Field(default=0.5, description="Probability that a row loses modalities, 0 to 1.")


class NumberDropout(Frozen):
    """With `probability`, a row loses some modalities: their number is uniform, and any of them may be lost."""

    strategy: Literal["number"] = Field(default="number", description="Selects this strategy.")
    probability: Probability = Field(default=0.5, description="Probability that a row loses modalities, 0 to 1.")


class IndependentDropout(Frozen):
    """A row loses each modality with its own probability. A row that would lose all keeps one."""

    strategy: Literal["independent"] = Field(default="independent", description="Selects this strategy.")
    probabilities: Annotated[dict[str, Probability], Field(min_length=1, max_length=60)] = Field(
        description="Modality -> probability that a row loses it, 0 to 1; 0 for those not named."
    )


def _with_strategy(value: Any) -> Any:
    """A plain number is the probability of the strategy `subsets`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"strategy": "subsets", "probability": value} if is_number else value


class _OrNumber:
    """Documents what `_with_strategy` accepts."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        number = {"type": "number", "minimum": 0, "maximum": 1, "description": "The probability of `subsets`."}
        return {"anyOf": [number, handler(schema)]}


ModalityDropout = Annotated[
    SubsetDropout | NumberDropout | IndependentDropout,
    Field(discriminator="strategy"),
    BeforeValidator(_with_strategy),
    _OrNumber(),
]


class BurstDeletion(Frozen):
    """Consecutive steps are hidden from the inputs of a sequence, independently for each modality."""

    probability: Probability = Field(default=0.5, description="That a modality of a sequence loses a burst.")
    longest: float = Field(default=0.2, gt=0, le=1, description="Part of the sequence that the longest burst takes.")


class DeletionMix(Frozen):
    """The gaps in a sequence's inputs: one of several families, drawn for each sequence by these weights.

    A model learns to fill the gaps that it is trained on. The families cover failing sensors, gaps in records,
    forecasts and missing modalities.
    """

    nothing: float = Field(default=0.08, ge=0, description="Weight of: all stays.")
    steps: float = Field(default=0.20, ge=0, description="Weight of: random steps, up to 90 % of a modality's.")
    bursts: float = Field(default=0.15, ge=0, description="Weight of: one burst a modality, up to 60 % of the steps.")
    future: float = Field(default=0.20, ge=0, description="Weight of: all modalities end early, at 30 % or later.")
    past: float = Field(default=0.10, ge=0, description="Weight of: all begin late, after up to 70 %.")
    windows: float = Field(
        default=0.22,
        ge=0,
        description="Weight of: some modalities stay whole, the others only in a window: their beginning, their end, "
        "or some of the middle.",
    )
    modalities: float = Field(default=0.05, ge=0, description="Weight of: some modalities are missing as a whole.")
    more_steps: Probability = Field(
        default=0.25, description="Probability that up to half of a modality's steps vanish beside all that."
    )

    @model_validator(mode="after")
    def _something_has_a_weight(self) -> Self:
        if not sum(self.weights):
            raise ValueError("all weights are 0, expected at least one above")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the families, in the order of the fields."""
        return (self.nothing, self.steps, self.bursts, self.future, self.past, self.windows, self.modalities)


class EarlyStopping(Frozen):
    """Training ends when the metric has not improved for `patience` epochs."""

    metric: str = Field(default="validation_loss", description="One that every epoch reports; lower is better.")
    patience: int = Field(default=10, ge=1, le=10_000, description="Number of epochs without improvement, 1 to 10,000.")
    minimum_change: float = Field(
        default=0.0,
        ge=0,
        description="A decrease of the metric counts as an improvement only if it is larger than this.",
    )


class TrainingConfig(Frozen):
    """How a model is trained, whatever its architecture."""

    epochs: int = Field(
        default=60, ge=1, le=100_000, description="Number of passes over the training rows, 1 to 100,000."
    )
    batch_size: int = Field(default=64, ge=1, le=65_536, description="Rows a step; a sequence is one row.")
    optimiser: Literal["adamw", "adam"] = Field(default="adamw", description="Method that updates the weights.")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Full learning rate, above 0 and at most 1.")
    learning_rate_schedule: LearningRateSchedule = Field(
        default=LearningRateSchedule(), description="How the learning rate changes over the training."
    )
    weight_decay: float = Field(
        default=1e-4,
        ge=0,
        le=1,
        description="adamw: part of the weights, times the learning rate, by which each step reduces them. "
        "adam: factor of the weights that is added to their gradients. 0 to 1.",
    )
    gradient_clip_norm: float = Field(
        default=1.0, gt=0, description="Largest norm of the gradient of the objective per observed value."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="bfloat16: networks compute in it where that is exact enough; made for GPUs."
    )
    validation_fraction: float = Field(default=0.1, ge=0, le=0.9, description="Part of the rows held out.")
    validation_rows: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, max_length=MAX_VALIDATION_ROWS, description="The rows held out, instead of a fraction."
    )
    select: Literal["best", "last"] = Field(
        default="best", description="Which epoch's weights are the result; best has the lowest `select_metric`."
    )
    select_metric: str = Field(default="validation_loss", description="Ignored where nothing is held out.")
    early_stopping: EarlyStopping | None = Field(default=None, description="When training ends early; null: never.")
    checkpoint_epochs: int | None = Field(
        default=None, ge=1, le=100_000, description="Keep a checkpoint every so many epochs."
    )
    objective: Objective = Field(default=ELBO(), description="What training maximises.")
    beta: BetaSchedule = Field(default=LinearBeta(), description="Weight of the KL divergence over the training.")
    free_bits: float = Field(
        default=0.0, ge=0, le=100, description="Nats of KL divergence a latent feature (and time step) has for free."
    )
    modality_weights: ByModality | Literal["auto"] | None = Field(
        default=None,
        description="Weight of each modality's log-likelihood, 1 for those not named; auto: inversely to its size.",
    )
    modality_dropout: ModalityDropout = Field(
        default=SubsetDropout(), description="Which modalities a row's inputs lose; its targets stay."
    )
    burst_deletion: BurstDeletion | None = Field(default=None, description="For sequences.")
    deletion_mix: DeletionMix | None = Field(
        default=None, description="For sequences: gaps of every kind, after modality_dropout."
    )
    fit: Literal["all", "conditional"] = Field(
        default="all",
        description="conditional: only the conditional part of the version that `init_from` names; its other weights "
        "stay as they are.",
    )
    conditional_steps: int = Field(
        default=1500, ge=1, le=1_000_000, description="Optimiser steps of the conditional part, 1 to 1,000,000."
    )
    weight_average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of the running average of the weights that is validated, kept and served; 0: the last ones.",
    )

    @model_validator(mode="after")
    def _every_cycle_has_an_epoch(self) -> Self:
        beta = self.beta
        if isinstance(beta, CyclicalBeta) and beta.unit == "epochs" and self.epochs < beta.cycles:
            raise ValueError(f"beta has {beta.cycles} cycles in {self.epochs} epochs, expected at least one epoch each")
        return self

    @property
    def holds_out(self) -> bool:
        """Whether any rows are held out."""
        return bool(self.validation_rows) if self.validation_rows is not None else self.validation_fraction > 0


def misfits(
    training: TrainingConfig,
    config: MMVAEConfig | MMVRNNConfig,
    rows: int,
    splits: Mapping[str, int] | None = None,
    devices: int = 1,
) -> list[Misfit]:
    """All faults of `training` for a model of this config and a dataset of this many rows.

    splits: the number of rows by split, if the dataset has splits.
    """
    names = sorted(modality.name for modality in config.modalities)
    found = []

    def named(place: str, given: object) -> None:
        for name in given if isinstance(given, dict) else ():
            if name not in names:
                found.append(Misfit((place, name), f"there is no modality {name!r}, only {', '.join(names)}"))

    named("modality_weights", training.modality_weights)
    named("modality_dropout", getattr(training.modality_dropout, "probabilities", None))
    if config.kind == "static":
        found += [
            Misfit((name,), f"samples have no time steps, and {name} is of time steps")
            for name in ("burst_deletion", "deletion_mix")
            if getattr(training, name) is not None
        ]
    if training.fit == "conditional" and config.conditional is None:
        detail = (
            "is 'conditional', and the architecture has no conditional part; expected `conditional` in it, or 'all'"
        )
        found.append(Misfit(("fit",), detail))
    if training.free_bits and isinstance(training.objective, IWAE):
        found.append(Misfit(("free_bits",), "the objective iwae has no KL divergence that could be free"))
    strangers = [row for row in training.validation_rows or () if row >= rows]
    if strangers:
        found.append(Misfit(("validation_rows",), f"has row {strangers[0]}, the dataset has rows 0 to {rows - 1}"))
    known = [*metric_names(names, training.holds_out)]
    for place, metric in [
        (("early_stopping", "metric"), training.early_stopping.metric if training.early_stopping else known[0]),
        (("select_metric",), training.select_metric if training.holds_out else known[0]),
    ]:
        if metric not in known:
            found.append(Misfit(place, f"there is no metric {metric!r}, only {', '.join(known)}"))
    return found + _misfits_of_rows(training, rows, splits, devices)


def _misfits_of_rows(
    training: TrainingConfig, rows: int, splits: Mapping[str, int] | None, devices: int
) -> list[Misfit]:
    """Too few rows for a batch, for all devices, or for the cycles of beta."""
    found = []
    named = training.validation_rows
    given = None if named is None else {row for row in named if row < rows}
    learned, held_out = held_out_rows.count(rows, splits, given, training.validation_fraction)
    size, smallest = training.batch_size, held_out_rows.min_batch_size(devices)
    if learned < 1:
        place, detail = "validation_fraction", f"the dataset has {rows} rows, and {held_out} are held out"
        if named is not None:
            place = "validation_rows"
        found.append(Misfit((place,), f"{detail}, expected at least one to train on; hold out fewer, or none"))
    elif learned < size:
        apart = f"{held_out} are held out" + (f", {splits['test']} are for tests" if splits and splits["test"] else "")
        detail = f"the dataset has {rows} rows, {learned} of them for training ({apart})"
        found.append(Misfit(("batch_size",), f"{detail}, expected at least one batch of {size}"))
    if size < smallest:
        detail = f"is {size} for {devices} devices, expected at least {smallest}, so that each has a row of every batch"
        found.append(Misfit(("batch_size",), detail))
    beta = training.beta
    steps = training.epochs * math.ceil(learned / size)
    if isinstance(beta, CyclicalBeta) and beta.unit == "steps" and steps < beta.cycles:
        detail = f"is {beta.cycles}, and the training has {steps} steps, expected at most one cycle for each"
        found.append(Misfit(("beta", "cycles"), detail))
    return found


def metric_names(modalities: list[str], holds_out: bool) -> list[str]:
    """The metrics by which epochs can be compared; lower is better for each."""
    names = ["loss", "kl", *(f"reconstruction/{name}" for name in modalities)]
    return [*names, *(f"validation_{name}" for name in names), "validation_profile"] if holds_out else names
