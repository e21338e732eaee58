"""How far off a trained model's predicted standard deviations are, measured on held-out rows and put right."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.likelihood.continuous import Continuous
from models.philox import Draws
from service.shared.samples import Samples
from worker import data
from worker.data import Rows
from worker.evaluate import row_elements

LEVEL = 0.9
# Of a Gaussian: that part lies within so many standard deviations.
INTERVAL = 1.6448536
DRAWS = 16
MOST_ROWS = 2000
# Numbers of one layer that are computed at once, and errors that are kept.
MOST_ELEMENTS = 2**22
# Fewer errors say nothing about the tenth of them that are largest.
LEAST_ERRORS = 100
NOISE = 18


@torch.no_grad()
def calibrate(model: Model, samples: Samples, rows: Rows, hide: Callable[[Batch, Rows], Batch], seed: int) -> None:
    """Widen, or narrow, the deviations predicted for missing numbers until nine of ten errors lie within the interval.

    A posterior that was trained with beta below 1 is too sure of itself, and a spread that was learned from observed
    and missing values alike is neither's. The factor is the 0.9 quantile of |error| / (1.645 deviation) over what
    `hide` takes away (locally weighted split conformal inference, arXiv:1604.04173, section 5.2): of each feature where
    it has enough errors, else of the modality, else 1. What is missing beside others and what is missing with all
    others differ, and so do predictions with and without draws: each has its own.
    """
    names = [name for name in model.index if isinstance(model.likelihood(name), Continuous)]
    if not names or not len(rows):
        return
    errors: dict[str, list[Tensor]] = {name: [] for name in names}
    absences: dict[str, list[Tensor]] = {name: [] for name in names}
    elements = row_elements(model, samples)
    most = min(MOST_ROWS, max(LEAST_ERRORS, MOST_ELEMENTS // elements))
    rows = rows[:: -(-len(rows) // most)]
    size = max(1, MOST_ELEMENTS // (DRAWS * elements))
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        targets = data.batch_of(samples, chunk).to(device)
        inputs = hide(targets, chunk)
        *steps, features = model.latent_shape(targets)
        noise = Draws(seed, 0, NOISE).normal(chunk, *steps, DRAWS, features).movedim(-2, 0).to(device)
        ways = [model.decode(inputs, names, None), model.decode(inputs, names, noise)]
        for name in names:
            gone = targets.present[name] & ~inputs.present[name]
            value = targets.values[name][gone]
            described = [model.describe(name, raws[name]) for raws in ways]
            off = [(value - way["mean"][gone]).abs() / way["standard_deviation"][gone] for way in described]
            errors[name].append(torch.stack(off).cpu())  # (2, N, *shape)
            absences[name].append(inputs.absence(name)[gone].cpu())  # (N,)
    for name in names:
        likelihood = model.likelihood(name)
        assert isinstance(likelihood, Continuous)  # noqa: S101 the names are of those
        every, absence = torch.cat(errors[name], dim=1), torch.cat(absences[name])
        for kind in (1, 2):
            of_kind = every[:, absence == kind]
            enough = of_kind.shape[1] >= LEAST_ERRORS
            likelihood.widening[:, kind - 1] = _factors(of_kind if enough else every, likelihood.widening[:, 0])


def _factors(errors: Tensor, like: Tensor) -> Tensor:
    """Of errors in standard deviations, (2, N, *shape): one for each feature, or one for all, as `like` broadcasts."""
    features = like[0].numel()
    if errors.shape[1] < LEAST_ERRORS:
        features = 1
    each = errors.reshape(2, -1, features).numpy()
    if each.shape[1] < LEAST_ERRORS:
        return torch.ones_like(like)
    factors = np.quantile(each, LEVEL, axis=1) / INTERVAL  # (2, features)
    return (
        torch.from_numpy(factors)
        .to(like.dtype)
        .reshape(2, *(like.shape[1:] if features > 1 else [1] * (like.ndim - 1)))
    )
