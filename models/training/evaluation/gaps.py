"""Errors inside gaps of sequences, beside a straight line over the gap and the last value before it.

The matrix hides whole modalities. Gaps hide some steps of one modality, and everything else is given.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.likelihoods.metric import RootMeanSquaredError
from models.mmvrnn import MMVRNN
from models.ops.philox import Draws
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation.errors import Errors
from models.training.evaluation.matrix import DRAWS, decoded
from models.training.evaluation.rows import batches

STEPS, STRETCH = 19, 20
"""The streams of random numbers."""
# Of a modality's steps that have a value: the part that is taken away, at random places, or next to each other.
SCATTERED = 0.5
LONGEST = 0.25


def gaps(
    model: Model, dataset: Dataset, rows: Rows, constants: Mapping[str, Tensor], seed: int
) -> list[dict[str, Any]]:
    """Two entries per modality of sequences: for scattered steps, and for one stretch of steps. None for samples.

    constants: the training rows' best ones, name -> (*shape).
    """
    if dataset.offsets is None:
        return []
    errors = {
        (name, pattern): Errors(name, model.likelihood(name), ("baseline", "last_value", "interpolation"))
        for name in model.index
        for pattern in ("scattered", "stretch")
    }
    for whole, chunk in batches(model, dataset, rows, DRAWS):
        for (name, pattern), one in errors.items():
            hidden = _scattered(whole, seed, chunk) if pattern == "scattered" else _stretch(whole, seed, chunk)
            hidden &= whole.observed(name)
            if not bool(hidden.any()):
                continue
            inputs = whole.kept({other: ~hidden if other == name else whole.valid for other in whole.present})
            targets = whole.kept({other: hidden if other == name else whole.valid for other in whole.present})
            of_mean, of_draws = decoded(model, inputs, targets, seed, chunk)
            others = _others(model, name, inputs, constants[name])
            one.add(of_mean[name], of_draws[name], targets, inputs.absence(name), others)
    return [{"target": name, "pattern": pattern, **one.figures()} for (name, pattern), one in errors.items()]


def _scattered(whole: Batch, seed: int, rows: Rows) -> Tensor:
    """Each step by itself: (B, T) bool."""
    uniform = Draws(seed, 0, STEPS).uniform(rows, whole.valid.shape[1]).to(whole.valid.device)
    return whole.valid & (uniform < SCATTERED)


def _stretch(whole: Batch, seed: int, rows: Rows) -> Tensor:
    """Consecutive steps anywhere in each sequence: (B, T) bool."""
    valid = whole.valid
    lengths = valid.sum(dim=1)
    size = (LONGEST * lengths).long().clamp(min=1)
    uniform = Draws(seed, 0, STRETCH).uniform(rows, 1)[:, 0].to(valid.device)
    start = (uniform * (lengths - size + 1)).long()
    step = torch.arange(valid.shape[1], device=valid.device)
    return valid & (step >= start.unsqueeze(1)) & (step < (start + size).unsqueeze(1))


def _others(model: Model, name: str, inputs: Batch, constant: Tensor) -> dict[str, Tensor | None]:
    """What needs no model. A model that filters has not seen the end of a gap, and is not compared with a line over it.

    Before the first value the constant stands for the last value.
    """
    likelihood, value, known = model.likelihood(name), inputs.values[name], inputs.known(name)
    before, there = _latest(value, known)
    last = torch.where(there, before, constant.to(value.dtype))
    line = None
    sees_the_future = isinstance(model, MMVRNN) and model.smoother is not None
    if sees_the_future and isinstance(likelihood.metric, RootMeanSquaredError):
        line = interpolated(value, known, constant)
    return {"baseline": constant, "last_value": last, "interpolation": line}


def interpolated(value: Tensor, known: Tensor, constant: Tensor) -> Tensor:
    """Straight lines between known values, the nearest one at both ends, `constant` without any: (B, T, *shape).

    value, known: (B, T, *shape). constant: (*shape).
    """
    steps = torch.arange(value.shape[1], device=value.device, dtype=value.dtype)
    steps = steps.reshape(1, -1, *(1,) * (value.ndim - 2)).expand_as(value)
    before, has_before = _latest(value, known)
    after, has_after = (found.flip(1) for found in _latest(value.flip(1), known.flip(1)))
    first, second = _latest(steps, known)[0], _latest(steps.flip(1), known.flip(1))[0].flip(1)
    part = (steps - first) / (second - first).clamp(min=1)
    line = before + part * (after - before)
    found = torch.where(has_before & has_after, line, torch.where(has_before, before, after))
    return torch.where(has_before | has_after, found, constant.to(value.dtype))


def _latest(value: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The last known value at or before each step, and whether there is one: (B, T, *shape) twice."""
    steps = torch.arange(value.shape[1], device=value.device).reshape(1, -1, *(1,) * (value.ndim - 2))
    place = torch.where(known, steps, -1).cummax(dim=1).values
    return value.gather(1, place.clamp(min=0)), place >= 0
