"""How far off a trained model's predicted standard deviations are, measured on held-out rows and put right."""

from collections.abc import Callable

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

DRAWS = 16
MOST_ROWS = 2000
# Numbers of one layer that are computed at once, and errors that are kept.
MOST_ELEMENTS = 2**22
LEAST_ROWS = 100
NOISE = 18


@torch.no_grad()
def calibrate(model: Model, samples: Samples, rows: Rows, hide: Callable[[Batch, Rows], Batch], seed: int) -> None:
    """Widen, or narrow, the deviations predicted for missing numbers until nine of ten errors lie within the interval.

    A posterior that was trained with beta below 1 is too sure of itself, and a spread that was learned from observed
    and missing values alike is neither's. `hide` takes away what is to be predicted; `models.likelihood.widening` is
    what comes of it.
    """
    names = [name for name in model.index if isinstance(model.likelihood(name), Continuous)]
    if not names or not len(rows):
        return
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in names}
    elements = row_elements(model, samples)
    most = min(MOST_ROWS, max(LEAST_ROWS, MOST_ELEMENTS // elements))
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
            deviations = torch.stack([way["standard_deviation"][gone] for way in described])
            errors = torch.stack([(value - way["mean"][gone]).abs() for way in described])
            found[name].append((deviations.cpu(), errors.cpu(), inputs.absence(name)[gone].cpu()))
    for name, pieces in found.items():
        likelihood = model.likelihood(name)
        assert isinstance(likelihood, Continuous)  # noqa: S101 the names are of those
        deviation, error = (torch.cat([piece[part] for piece in pieces], dim=1) for part in (0, 1))  # (2, N, *shape)
        scale, absence = likelihood.scale.cpu(), torch.cat([piece[2] for piece in pieces])
        likelihood.widening.fit(deviation / scale, error / scale, absence)
