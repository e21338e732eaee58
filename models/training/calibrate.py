"""How far off a trained model's predicted standard deviations are, measured on held-out rows and put right."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.likelihoods.widening import MIN_ERRORS
from models.ops.philox import Draws
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluate import row_elements

DRAWS = 16
MOST_ROWS = 2000
# Numbers of one layer that are computed at once, and errors that are kept.
MOST_ELEMENTS = 2**22
LEAST_ROWS = 100
# Draws of gaps for a row, and values that count of each: those of a sequence err alike, and a long gap is one gap.
MOST_REPEATS = 8
MOST_VALUES = 5
NOISE = 18


Hide = Callable[[Batch, Rows, int], Batch]
"""What is left of a batch of these rows, in the so-manieth draw of gaps."""


@torch.no_grad()
def calibrate(model: Model, dataset: Dataset, rows: Rows, hide: Hide, seed: int) -> None:
    """Widen, or narrow, the deviations predicted for missing numbers until nine of ten errors lie within the interval.

    A posterior that was trained with beta below 1 is too sure of itself, and a spread that was learned from observed
    and missing values alike is neither's. `hide` takes away what is to be predicted; `models.likelihoods.widening` is
    what comes of it.
    """
    names = [name for name in model.index if model.likelihood(name).has_intervals]
    independent = len(rows) * (1 if dataset.offsets is None else MOST_VALUES)
    if not names or independent < MIN_ERRORS:
        return
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in names}
    elements = row_elements(model, dataset)
    most = min(MOST_ROWS, max(LEAST_ROWS, MOST_ELEMENTS // elements))
    rows = rows[:: -(-len(rows) // most)]
    size = max(1, MOST_ELEMENTS // (DRAWS * elements))
    repeats = min(MOST_REPEATS, max(1, most // len(rows)))
    device = next(model.parameters()).device
    for start, repeat in product(range(0, len(rows), size), range(repeats)):
        chunk = rows[start : start + size]
        targets = data.batch_of(dataset, chunk).to(device)
        inputs = hide(targets, chunk, repeat)
        *steps, features = model.latent_shape(targets)
        noise = Draws(seed, repeat, NOISE).normal(chunk, *steps, DRAWS, features).movedim(-2, 0).to(device)
        ways = [model.decode(inputs, names, None), model.decode(inputs, names, noise)]
        for name in names:
            gone = _some(targets.present[name] & ~inputs.present[name])
            value = targets.values[name][gone]
            likelihood = model.likelihood(name)
            described = [model.describe(name, raws[name]) for raws in ways]
            both = [likelihood.deviation_and_error({k: v[gone] for k, v in way.items()}, value) for way in described]
            deviations, errors = (torch.stack(part).cpu() for part in zip(*both, strict=True))
            found[name].append((deviations, errors, inputs.absence(name)[gone].cpu()))
    for name, pieces in found.items():
        deviation, error = (torch.cat([piece[part] for piece in pieces], dim=1) for part in (0, 1))  # (2, N, *shape)
        model.likelihood(name).calibrate(deviation, error, torch.cat([piece[2] for piece in pieces]))


def _some(gone: Tensor) -> Tensor:
    """Up to MOST_VALUES of the places (B, T) of every row, evenly spaced; of samples, (B,), all."""
    if gone.ndim == 1:
        return gone
    rank, count = gone.cumsum(dim=1) - 1, gone.sum(dim=1, keepdim=True)
    chosen = ((torch.arange(MOST_VALUES, device=gone.device) + 0.5) / MOST_VALUES * count).long()  # (B, MOST_VALUES)
    return gone & (rank.unsqueeze(2) == chosen.unsqueeze(1)).any(dim=2)
