"""A training's state between two steps, as one file: what it takes to go on as if nothing had happened. No pickle."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "sensorium-training/1"
METADATA = "sensorium"


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

    identity: what has to be the same when it goes on (configuration, training, seed, rows). totals: sums of the epoch
    that is under way, over `rows` rows. waited: epochs since early stopping's metric was best, `lowest`.
    """

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


def save(state: TrainingState, path: Path) -> None:
    """Write the state; the file is there whole and durable, or not at all."""
    groups = {"weights": state.weights, "optimiser": state.optimiser, "totals": state.totals}
    if state.best is not None:
        groups["best"] = state.best.weights
    tensors = {f"{group}/{name}": tensor for group, members in groups.items() for name, tensor in members.items()}
    best = state.best and {"epoch": state.best.epoch, "value": state.best.value, "metrics": state.best.metrics}
    header = {
        "format": FORMAT,
        "identity": state.identity,
        "step": state.step,
        "rows": state.rows,
        "best": best,
        "waited": state.waited,
        "lowest": state.lowest,
        "metrics": state.metrics,
    }
    unfinished = path.with_name(path.name + ".unfinished")
    save_file(tensors, unfinished, metadata={METADATA: json.dumps(header)})
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def load(path: Path) -> TrainingState:
    """Read what `save` wrote. Raises UnusableState."""
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "optimiser": {}, "totals": {}, "best": {}}
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            if header.get("format") != FORMAT:
                raise UnusableState(f"{path.name} has format {header.get('format')!r}, expected {FORMAT!r}")
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
    except SafetensorError as error:
        raise UnusableState(f"{path.name} is no whole safetensors file: {error}") from error
    best = header["best"] and Best(**header["best"], weights=groups["best"])
    return TrainingState(
        identity=header["identity"],
        step=header["step"],
        weights=groups["weights"],
        optimiser=groups["optimiser"],
        totals=groups["totals"],
        rows=header["rows"],
        best=best,
        waited=header["waited"],
        lowest=header["lowest"],
        metrics=header["metrics"],
    )


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state by parameter number and name, copied to the CPU."""
    state = optimiser.state_dict()["state"]
    return {f"{number}/{key}": value.cpu().clone() for number, part in state.items() for key, value in part.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; its groups stay as they were built."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value.clone()
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
