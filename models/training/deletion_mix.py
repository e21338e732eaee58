"""Mixes of deletions: gaps as sequences have in practice, drawn anew for every sequence and training step.

Changes presence alone, as `models.training.masking` does.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from models.batch import Batch
from models.config import DeletionMix
from models.ops.philox import Draws
from models.training.masking import random_subset

STEPS, BURSTS, FUTURE, PAST, WINDOWS, MODALITIES = range(1, 7)
"""Indices of the families of gaps in `DeletionMix.weights`. Index 0 is no gap."""


def deletion_mix(batch: Batch, config: DeletionMix, draws: Draws, rows: NDArray[np.int64]) -> Batch:
    """The sequences with gaps of one family each, drawn by the weights of the config.

    All families but random steps are one interval of steps per modality. The interval is hidden; for windows, all but
    the interval is hidden. Lengths are fractions of the sequence's length. rows: (B,) the row numbers in the dataset.
    """
    names = sorted(batch.present)
    masks = torch.stack([batch.observed(name) for name in names], dim=1)  # (B, M, T)
    count, steps = masks.shape[1:]
    length = batch.valid.sum(dim=1, keepdim=True).float()  # (B, 1)
    # Numbers per step come last, so that padding changes no other number.
    uniform = draws.uniform(rows, 4 + count * (5 + steps)).float().to(masks.device)
    which, subset, where, sparse = uniform[:, :4].T.unsqueeze(-1)  # (B, 1) each
    of_modalities = uniform[:, 4 : 4 + 5 * count].unflatten(1, (5, count))
    size, begin, rate, rarer, stays = of_modalities.unbind(dim=1)  # (B, M) each
    of_steps = uniform[:, 4 + 5 * count :].unflatten(1, (steps, count)).transpose(1, 2)  # (B, M, T)

    shares = torch.tensor(config.weights, device=masks.device).cumsum(dim=0)
    family = torch.searchsorted(shares, which * shares[-1], right=True)  # (B, 1)
    none = torch.zeros_like(size)
    burst, window = 0.6 * size * length, 0.9 * size * length
    opened = torch.where(where < 0.5, none, torch.where(where < 0.75, none + 1, begin)) * (length - window)
    cut = where * length
    intervals = [(none, none)] * 7
    intervals[BURSTS] = (begin * (length - burst), begin * (length - burst) + burst)
    intervals[FUTURE] = (none + 0.3 * length + 0.7 * cut, none + length)
    intervals[PAST] = (none, none + 0.7 * cut)
    intervals[WINDOWS] = (opened, opened + window)
    intervals[MODALITIES] = (none, none + length)
    every = torch.arange(len(rows), device=masks.device)
    first, last = (torch.stack(ends)[family[:, 0], every].unsqueeze(-1) for ends in zip(*intervals, strict=True))

    step = torch.arange(steps, device=masks.device)
    inside = (step >= first) & (step < last)  # (B, M, T)
    hidden = torch.where((family == WINDOWS).unsqueeze(-1), ~inside, inside)
    whole = random_subset(masks.any(dim=2).T, subset[:, 0], stays.T).T & (family >= WINDOWS)
    lost = 1 - (1 - 0.9 * rate * (family == STEPS)) * (1 - 0.5 * rarer * (sparse < config.more_steps))
    left = masks & ~(hidden & ~whole.unsqueeze(-1)) & (of_steps >= lost.unsqueeze(-1))
    return batch.kept({name: left[:, index] for index, name in enumerate(names)})
