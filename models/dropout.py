"""Modality dropout and burst deletion: hide things from the inputs, so that a model learns to do without them.

Both change presence alone: values are shared with the batch that came in, so whoever reads values must mask them. Use
the result as inputs and the batch itself as targets. Masks are drawn on the CPU and are the same on every device.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Batch
from models.config import BurstDeletion, IndependentDropout, NumberDropout, SubsetDropout
from models.philox import Draws


def modality_dropout(
    batch: Batch, config: SubsetDropout | NumberDropout | IndependentDropout, draws: Draws, rows: NDArray[np.int64]
) -> Batch:
    """The batch with whole modalities of some rows hidden; a row keeps at least one of those it has.

    rows: (B,) the rows' numbers in the dataset, by which `draws` gives each its own randomness. A row has n modalities:
    'subsets' keeps one of the 2^n - 2 incomplete, non-empty subsets, each equally likely; 'number' hides 1 to n - 1 of
    them, each number equally likely; 'independent' hides each by its own probability (Neverova et al., 2015).
    """
    names = sorted(batch.present)
    masks = torch.stack([batch.present[name] for name in names])  # (M, B) or (M, B, T)
    has = masks.flatten(2).any(dim=2) if masks.ndim == 3 else masks  # (M, B)
    chance = draws.uniform(rows, len(names) + 2).T.to(has.device)  # (M + 2, B)
    if isinstance(config, IndependentDropout):
        probability = torch.tensor([config.probabilities.get(name, 0.0) for name in names], dtype=chance.dtype)
        keep = has & (chance[2:] >= probability.to(has.device).unsqueeze(1))
        keep |= ~keep.any(dim=0) & _first(has, _nth(has, chance[1]))
    elif isinstance(config, NumberDropout):
        hidden = (1 + chance[1] * (has.sum(dim=0) - 1)).long()
        keep = _last_in_random_order(has, chance[2:], hidden) | (chance[0] >= config.probability)
    else:
        keep = random_subset(has, chance[1], chance[2:]) | (chance[0] >= config.probability)
    left = masks & (keep.unsqueeze(2) if masks.ndim == 3 else keep)
    return Batch(batch.values, dict(zip(names, left, strict=True)), batch.lengths)


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
    if len(has) > MOST_NUMBERED:
        keep = has & (chances < 0.5)
        proper = keep.any(dim=0) & (keep != has).any(dim=0)
        return torch.where(proper, keep, _first(has, _nth(has, chance)))
    count = has.sum(dim=0)
    number = 1 + (chance * (2**count - 2).clamp(min=1)).long()
    position = (has.cumsum(dim=0) - 1).clamp(min=0)
    return has & ((number >> position) & 1).bool()


def _nth(has: Tensor, chance: Tensor) -> Tensor:
    """A random one of every row's modalities, counted from 1 among those it has: (B,)."""
    return 1 + (chance * has.sum(dim=0)).long()


def _first(has: Tensor, number: Tensor) -> Tensor:
    """The modality that is the number-th of those a row has: (M, B) bool."""
    return has & (has.cumsum(dim=0) == number)


def _last_in_random_order(has: Tensor, chance: Tensor, hidden: Tensor) -> Tensor:
    """All but the first `hidden` of the modalities that a row has, in an order drawn from `chance` (M, B)."""
    order = torch.where(has, chance, 2.0).argsort(dim=0).argsort(dim=0)  # what is absent comes last
    return has & (order >= torch.where(has.sum(dim=0) > 1, hidden, 0))
