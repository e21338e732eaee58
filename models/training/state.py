"""A training's state between two steps: a checkpoint of the model, and beside it all it takes to go on.

The file is one that `models.load` reads: a state can be downloaded, registered and served like any model.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from models.config import TrainingConfig, parse
from models.io import checkpoint
from models.io.checkpoint import CheckpointError

FORMAT = "sensorium-training/1"


class UnusableState(ValueError):
    """A file that is no training state, or one of another training."""


@dataclass(frozen=True)
class Best:
    """The best epoch so far: the metric that was compared, all of its metrics, and the weights."""

    epoch: int
    value: float
    metrics: dict[str, float]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class TrainingState:
    """Taken after `step` optimiser steps. All tensors are copies on the CPU.

    header: what a checkpoint says of the model. weights: those to serve. live: the parameters under training, where
    `weights` are their running averages. identity: what has to be the same when it goes on (configuration,
    training, seed, rows). totals: sums of the epoch that is under way, over `rows` rows. waited: epochs since early
    stopping's metric was best, `lowest`.
    """

    header: dict[str, Any]
    identity: dict[str, Any]
    step: int
    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    totals: dict[str, Tensor]
    rows: int
    best: Best | None = None
    waited: int = 0
    lowest: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    live: dict[str, Tensor] = field(default_factory=dict)


def save(state: TrainingState, path: Path) -> None:
    """Write the state; the file is there whole and durable, or not at all."""
    groups = {"optimiser": state.optimiser, "totals": state.totals, "live": state.live}
    if state.best is not None:
        groups["best"] = state.best.weights
    extra = {f"{group}/{name}": tensor for group, members in groups.items() for name, tensor in members.items()}
    training = {
        "format": FORMAT,
        "identity": state.identity,
        "step": state.step,
        "rows": state.rows,
        "best": state.best and {"epoch": state.best.epoch, "value": state.best.value, "metrics": state.best.metrics},
        "waited": state.waited,
        "lowest": state.lowest,
        "metrics": state.metrics,
    }
    header = {**state.header, "metadata": {"training": training}}
    unfinished = path.with_name(path.name + ".unfinished")
    checkpoint.write(unfinished, header, state.weights, extra)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def load(path: Path) -> TrainingState:
    """Read what `save` wrote. Raises UnusableState."""
    groups: dict[str, dict[str, Tensor]] = {"optimiser": {}, "totals": {}, "live": {}, "best": {}}
    try:
        training = checkpoint.read_metadata(path).get("training", {})
        if training.get("format") != FORMAT:
            raise UnusableState(f"{path.name} has training format {training.get('format')!r}, expected {FORMAT!r}")
        weights = checkpoint.read_weights(path)
        for key, tensor in checkpoint.read_extra(path).items():
            group, name = key.split("/", 1)
            groups[group][name] = tensor
    except CheckpointError as error:
        raise UnusableState(str(error)) from error
    return TrainingState(
        header={},
        identity=_with_defaults(training["identity"]),
        step=training["step"],
        weights=weights,
        optimiser=groups["optimiser"],
        totals=groups["totals"],
        rows=training["rows"],
        best=training["best"] and Best(**training["best"], weights=groups["best"]),
        waited=training["waited"],
        lowest=training["lowest"],
        metrics=training["metrics"],
        live=groups["live"],
    )


def _with_defaults(identity: dict[str, Any]) -> dict[str, Any]:
    """Fields that are newer than the state get their defaults: that is how it was trained."""
    try:
        config = parse(identity["config"]).model_dump(mode="json")
        training = TrainingConfig.model_validate(identity["training"]).model_dump(mode="json")
    except ValidationError:  # of a later version: compared as it stands
        return identity
    return {**identity, "config": config, "training": training}
