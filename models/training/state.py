"""The state of a training between two steps: a checkpoint of the model, and what resuming needs.

`models.load` reads the file too: a state can be downloaded, registered and served like any model.
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
    """A file that is not a training state, or the state of another training."""


@dataclass(frozen=True)
class Best:
    """The best epoch so far. value: the metric by which epochs are compared."""

    epoch: int
    value: float
    metrics: dict[str, float]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class TrainingState:
    """The state after `step` optimiser steps. All tensors are copies on the CPU.

    header: the header of the model's checkpoint. weights: those to serve. live: the trained parameters, if `weights`
    are their running averages. identity: what must be the same on resuming (configuration, training, seed, rows).
    totals: sums over `rows` rows of the unfinished epoch. waited: epochs since early stopping's metric had its lowest
    value, `lowest`.
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
    """Write the state. The file is whole and durable, or does not exist."""
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
    """The identity with defaults for fields that are newer than the state: it was trained as the defaults say."""
    try:
        config = parse(identity["config"]).model_dump(mode="json")
        training = TrainingConfig.model_validate(identity["training"]).model_dump(mode="json")
    except ValidationError:  # a later version wrote it: compare it unchanged
        return identity
    return {**identity, "config": config, "training": training}
