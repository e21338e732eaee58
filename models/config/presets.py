"""Presets: measured choices of architecture and training for a purpose (`docs/models.md`).

Choices in the request replace those of the preset. A request without a preset gets the recommended one.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from models.config import held_out as held_out_rows
from models.config.frozen import Kind
from models.config.training import TrainingConfig

Preset = Literal["joint-embedding", "cross-modal", "sequence-imputation", "forecasting"]

# Optimiser steps of a training; more of them improve little. One epoch of a large dataset may have more.
STEPS: dict[Kind, int] = {"static": 4000, "sequence": 1900}
MIN_EPOCHS, MAX_EPOCHS = 20, 400
# With fewer rows, a tenth of them is too few for validation.
FEW_ROWS = 200

_STATIC: dict[str, Any] = {"batch_size": 64, "weight_average": 0.99, "conditional_steps": 500}
_SEQUENCES: dict[str, Any] = {
    "batch_size": 50,
    "learning_rate": 3e-3,
    "modality_dropout": 0.0,
    "weight_average": 0.99,
    # the few hardest gaps would dominate the mean of plain losses
    "select_metric": "validation_profile",
}
_SMOOTHING = {"inference": "smooth", "static_latent_features": 8, "modality_features": 16}

# The differences from the defaults: {"architecture": ..., "training": ...}.
PRESETS: dict[tuple[Preset, Kind], dict[str, dict[str, Any]]] = {
    # one code for all given modalities: few rows of a batch lack one
    ("joint-embedding", "static"): {"architecture": {}, "training": {**_STATIC, "modality_dropout": 0.25}},
    # one modality predicts another: most rows of a batch lack some
    ("cross-modal", "static"): {"architecture": {}, "training": {**_STATIC, "modality_dropout": 0.8}},
    ("joint-embedding", "sequence"): {
        "architecture": _SMOOTHING,
        "training": {**_SEQUENCES, "deletion_mix": {"nothing": 0.5}},
    },
    ("cross-modal", "sequence"): {
        "architecture": _SMOOTHING,
        "training": {**_SEQUENCES, "deletion_mix": {"modalities": 0.6}},
    },
    # gaps of all kinds in whole sequences
    ("sequence-imputation", "sequence"): {
        "architecture": _SMOOTHING,
        "training": {**_SEQUENCES, "deletion_mix": {}},
    },
    # the next steps from the past alone, as data arrive
    ("forecasting", "sequence"): {
        "architecture": {"inference": "filter"},
        "training": {**_SEQUENCES, "deletion_mix": {"future": 0.4, "past": 0.0}},
    },
}


class UnfitPreset(ValueError):
    """A preset for other data. The message names the presets that fit."""


def recommended(kind: Kind, modalities: int, architecture: Mapping[str, Any]) -> Preset:
    """The preset of a request without one. architecture: the request's choices."""
    if kind == "static":
        return "cross-modal" if modalities > 1 else "joint-embedding"
    past_alone = architecture.get("inference") == "filter" or architecture.get("posterior") == "product_of_experts"
    return "forecasting" if past_alone else "sequence-imputation"


def misfit(preset: Preset, kind: Kind, modalities: int) -> str | None:
    """Why a preset does not fit data of this kind, and the presets that do; None if it fits."""
    fitting = [name for name, of in PRESETS if of == kind and (name != "cross-modal" or modalities > 1)]
    if preset in fitting:
        return None
    if (preset, kind) in PRESETS:
        why = f"preset {preset!r} predicts some modalities from others, and the dataset has one"
    else:
        why = f"preset {preset!r} is for sequences, and the dataset is {kind}"
    return f"{why}; expected {' or '.join(map(repr, fitting))}"


class Choices(NamedTuple):
    """A preset completed by the choices of a request, as options of an architecture and of `TrainingConfig`."""

    preset: Preset
    architecture: dict[str, Any]
    training: dict[str, Any]


def choose(
    preset: Preset | None,
    kind: Kind,
    modalities: int,
    rows: int,
    architecture: Mapping[str, Any],
    training: Mapping[str, Any],
    held_out: int = 0,
    devices: int = 1,
) -> Choices:
    """Complete the choices of a request for a dataset with these numbers of modalities and rows. Raises UnfitPreset.

    rows: the dataset's rows without its test rows. held_out: the number of them in the dataset's validation split.
    """
    preset = preset or recommended(kind, modalities, architecture)
    if why := misfit(preset, kind, modalities):
        raise UnfitPreset(why)
    options = {**PRESETS[preset, kind]["architecture"], **architecture}
    return Choices(preset, options, _training(preset, kind, rows, training, held_out, devices))


def _training(
    preset: Preset, kind: Kind, rows: int, given: Mapping[str, Any], held_out: int, devices: int
) -> dict[str, Any]:
    """Few rows get smaller batches and a larger held-out fraction. The number of steps is bounded by epochs."""
    chosen = {**PRESETS[preset, kind]["training"], **given}
    named = chosen.get("validation_rows")
    if named is None and not held_out:
        chosen.setdefault("validation_fraction", 0.1 if rows >= FEW_ROWS else 0.2 if rows > 1 else 0.0)
    fraction = chosen.get("validation_fraction", TrainingConfig.model_fields["validation_fraction"].default)
    counted = held_out_rows.count(rows, {"validation": held_out, "test": 0}, named, fraction)
    learned, held_out = max(1, counted.training), counted.held_out
    if "batch_size" not in given:
        batch_size = min(chosen["batch_size"], max(8, learned // 8))
        chosen["batch_size"] = min(max(batch_size, held_out_rows.min_batch_size(devices)), learned)
    if "epochs" not in given:
        epochs = math.ceil(STEPS[kind] / math.ceil(learned / chosen["batch_size"]))
        chosen["epochs"] = min(max(epochs, MIN_EPOCHS), MAX_EPOCHS)
        if held_out and "early_stopping" not in given:
            metric = chosen.get("select_metric", "validation_loss")
            chosen["early_stopping"] = {"metric": metric, "patience": max(10, chosen["epochs"] // 4)}
    if not held_out:
        chosen.pop("select_metric", None)
    return chosen
