"""Modality dropout and burst deletion: hide things from the inputs, so that a model learns to do without them.

Both change presence alone: values are shared with the batch that came in, so whoever reads values must mask them. Use
the result as inputs and the batch itself as targets. Masks are drawn on the CPU and are the same on every device; by
numpy, which starts its operations in a third of the time that torch takes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Batch
from models.config import BurstDeletion, IndependentDropout, NumberDropout, SubsetDropout
from models.ops.philox import Draws

Mask = NDArray[np.bool_]
Number = NDArray[np.int64]
Chance = NDArray[np.float64]


def modality_dropout(
    batch: Batch, config: SubsetDropout | NumberDropout | IndependentDropout, draws: Draws, rows: NDArray[np.int64]
) -> Batch:
    """The batch with whole modalities of some rows hidden; a row keeps at least one of those it has.

    rows: (B,) the rows' numbers in the dataset, by which `draws` gives each its own randomness. A row has n modalities:
    'subsets' keeps one of the 2^n - 2 incomplete, non-empty subsets, each equally likely; 'number' hides 1 to n - 1 of
    them, each number equally likely; 'independent' hides each by its own probability (Neverova et al., 2015).
    """
    names = sorted(batch.present)
    has = np.stack([_anywhere(batch.present[name]) for name in names])  # (M, B)
    chance = draws.uniform(rows, len(names) + 2).numpy().T  # (M + 2, B)
    if isinstance(config, IndependentDropout):
        probability = np.array([config.probabilities.get(name, 0.0) for name in names])
        keep = has & (chance[2:] >= probability[:, None])
        keep |= ~keep.any(axis=0) & _first(has, _nth(has, chance[1]))
    elif isinstance(config, NumberDropout):
        hidden = (1 + chance[1] * (has.sum(axis=0) - 1)).astype(np.int64)
        keep = _last_in_random_order(has, chance[2:], hidden) | (chance[0] >= config.probability)
    else:
        keep = _subset(has, chance[1], chance[2:]) | (chance[0] >= config.probability)
    left = {}
    for name, own in zip(names, keep, strict=True):
        mask = batch.present[name]
        stays = torch.from_numpy(own).to(mask.device)
        left[name] = mask & (stays.unsqueeze(1) if mask.ndim == 2 else stays)
    return Batch(batch.values, left, batch.lengths)


def _anywhere(mask: Tensor) -> Mask:
    """Whether a row has a modality: (B,) or (B, T) -> (B,)."""
    found: Mask = (mask.any(dim=1) if mask.ndim == 2 else mask).cpu().numpy()
    return found


def burst_deletion(batch: Batch, config: BurstDeletion, draws: Draws, rows: NDArray[np.int64]) -> Batch:
    """The sequences with a burst of consecutive steps hidden from some of their modalities.

    After arXiv:1905.13570, section 4. A burst's length is uniform from 1 to `longest` of the sequence's steps; so is
    where it begins.
    """
    names = sorted(batch.present)
    lengths, device = batch.valid.sum(dim=1), batch.valid.device
    chance = draws.uniform(rows, 3 * len(names)).reshape(len(rows), len(names), 3).to(device)
    longest = (config.longest * lengths).long().clamp(min=1).unsqueeze(1)  # (B, 1)
    burst = 1 + (chance[..., 1] * longest).long()  # (B, M)
    start = (chance[..., 2] * (lengths.unsqueeze(1) - burst + 1)).long()
    step = torch.arange(batch.valid.shape[1], device=device)
    inside = (step >= start.unsqueeze(2)) & (step < (start + burst).unsqueeze(2))  # (B, M, T)
    hidden = inside & (chance[..., :1] < config.probability)
    return Batch(
        batch.values,
        {name: batch.present[name] & ~hidden[:, index] for index, name in enumerate(names)},
        batch.lengths,
    )


# Beyond, a subset's number does not fit into a random number's 32 bits.
MOST_NUMBERED = 24


def random_subset(has: Tensor, chance: Tensor, chances: Tensor) -> Tensor:
    """A proper, non-empty subset of every row's modalities, uniformly: (M, B) bool.

    chance: (B,), chances: (M, B), in [0, 1). A row with a single modality keeps it. A number from 1 to 2^n - 2 is the
    subset: bit i tells whether the row's i-th modality stays. Of many modalities each stays with probability 1/2, and
    the empty and the full subset, one in millions, give way to one of a single modality.
    """
    kept = _subset(has.cpu().numpy(), chance.cpu().numpy(), chances.cpu().numpy())
    return torch.from_numpy(kept).to(has.device)


def _subset(has: Mask, chance: Chance, chances: Chance) -> Mask:
    if len(has) > MOST_NUMBERED:
        keep = has & (chances < 0.5)
        proper = keep.any(axis=0) & (keep != has).any(axis=0)
        return np.where(proper, keep, _first(has, _nth(has, chance)))
    position = has.cumsum(axis=0)  # from 1
    count = position[-1]
    number = 1 + (chance * np.maximum((1 << count) - 2, 1)).astype(np.int64)
    chosen: Mask = has & (number >> np.maximum(position - 1, 0) & 1).astype(np.bool_)
    return chosen


def _nth(has: Mask, chance: Chance) -> Number:
    """A random one of every row's modalities, counted from 1 among those it has: (B,)."""
    number: Number = 1 + (chance * has.sum(axis=0)).astype(np.int64)
    return number


def _first(has: Mask, number: Number) -> Mask:
    """The modality that is the number-th of those a row has: (M, B)."""
    chosen: Mask = has & (has.cumsum(axis=0) == number)
    return chosen


def _last_in_random_order(has: Mask, chance: Chance, hidden: Number) -> Mask:
    """All but the first `hidden` of the modalities that a row has, in an order drawn from `chance` (M, B)."""
    order = np.where(has, chance, 2.0).argsort(axis=0).argsort(axis=0)  # what is absent comes last
    return has & (order >= np.where(has.sum(axis=0) > 1, hidden, 0))
