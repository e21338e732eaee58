"""Calibration: scale the predicted standard deviations of a trained model by its errors on held-out rows."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.likelihoods.widening import MIN_ERRORS
from models.ops.philox import Draws
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation.rows import numbers_per_row

DRAWS = 16
MIN_ROWS, MAX_ROWS = 100, 2000
# Numbers of one layer that are computed together, and errors that are kept.
MAX_NUMBERS = 2**22
# Random masks per row, and values per mask. Few values per mask, because errors within one gap are correlated.
MAX_MASKS = 8
MAX_VALUES = 5
NOISE = 18
"""The stream of random numbers."""


Mask = Callable[[Batch, Rows, int], Batch]
"""(targets, their rows, n) -> the targets under the n-th random mask."""


@torch.no_grad()
def calibrate(model: Model, dataset: Dataset, rows: Rows, mask: Mask, seed: int) -> None:
    """Scale the predicted deviations of missing values so that 90 % of the held-out errors lie within their interval.

    A posterior trained with beta below 1 is too narrow, and one spread learned from observed and missing values fits
    neither. `mask` hides the values to predict. `Likelihood.calibrate` fits the factors.
    """
    names = [name for name in model.index if model.likelihood(name).has_intervals]
    independent = len(rows) * (1 if dataset.offsets is None else MAX_VALUES)
    if not names or independent < MIN_ERRORS:
        return
    numbers = numbers_per_row(model, dataset)
    max_rows = min(MAX_ROWS, max(MIN_ROWS, MAX_NUMBERS // numbers))
    rows = rows[:: -(-len(rows) // max_rows)]
    batch_size = max(1, MAX_NUMBERS // (DRAWS * numbers))
    masks = min(MAX_MASKS, max(1, max_rows // len(rows)))
    found: dict[str, list[_Errors]] = {name: [] for name in names}
    for start, number in product(range(0, len(rows), batch_size), range(masks)):
        batch = rows[start : start + batch_size]
        for name, of_batch in _errors(model, dataset, batch, names, mask, number, seed).items():
            found[name].append(of_batch)
    for name, of_batches in found.items():
        elements = [one.elements for one in of_batches if one.elements is not None]
        model.likelihood(name).calibrate(
            torch.cat([one.deviations for one in of_batches], dim=1),
            torch.cat([one.errors for one in of_batches], dim=1),
            torch.cat([one.absence for one in of_batches]),
            torch.cat(elements) if elements else None,
        )


class _Errors(NamedTuple):
    """Of N hidden values, on the CPU: what `Likelihood.calibrate` takes.

    deviations, errors: (2, N, *shape), predicted by the posterior mean, then by draws. absence: (N,). elements: the
    elements that are known, (N, *shape) bool; None for all.
    """

    deviations: Tensor
    errors: Tensor
    absence: Tensor
    elements: Tensor | None


def _errors(
    model: Model, dataset: Dataset, rows: Rows, names: list[str], mask: Mask, number: int, seed: int
) -> dict[str, _Errors]:
    """The errors of the values that `mask` hides, for each modality."""
    device = next(model.parameters()).device
    targets = data.batch_of(dataset, rows).to(device)
    inputs = mask(targets, rows, number)
    *steps, features = model.latent_shape(targets)
    noise = Draws(seed, number, NOISE, model.backend).normal(rows, *steps, DRAWS, features).movedim(-2, 0).to(device)
    predictions = [model.decode(inputs, names, None), model.decode(inputs, names, noise)]
    found = {}
    for name in names:
        hidden = _some(targets.observed(name) & ~inputs.observed(name))
        value, elements, likelihood = targets.values[name][hidden], targets.elements(name), model.likelihood(name)
        described = [model.describe(name, prediction[name]) for prediction in predictions]
        both = [likelihood.deviation_and_error({k: v[hidden] for k, v in one.items()}, value) for one in described]
        deviations, errors = (torch.stack(part).cpu() for part in zip(*both, strict=True))
        known = None if elements is None else elements[hidden].cpu()
        found[name] = _Errors(deviations, errors, inputs.absence(name)[hidden].cpu(), known)
    return found


def _some(hidden: Tensor) -> Tensor:
    """Up to MAX_VALUES of the true steps (B, T) of every row, evenly spaced; for samples, (B,), all."""
    if hidden.ndim == 1:
        return hidden
    rank, count = hidden.cumsum(dim=1) - 1, hidden.sum(dim=1, keepdim=True)
    chosen = ((torch.arange(MAX_VALUES, device=hidden.device) + 0.5) / MAX_VALUES * count).long()  # (B, MAX_VALUES)
    return hidden & (rank.unsqueeze(2) == chosen.unsqueeze(1)).any(dim=2)
