"""Modality dropout and burst deletion: hide parts of the inputs, so that a model learns to do without them.

Both change presence alone. Values are shared with the given batch, so readers of values must apply the mask. Use the
result as inputs and the given batch as targets. Masks are drawn on the CPU and are the same on every device. NumPy
draws them, because it starts an operation in a third of the time that torch takes.
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
Uniform = NDArray[np.float64]

# With more modalities, the number of a subset does not fit into the 32 bits of a random number.
MAX_NUMBERED = 24


def modality_dropout(
    batch: Batch, config: SubsetDropout | NumberDropout | IndependentDropout, draws: Draws, rows: NDArray[np.int64]
) -> Batch:
    """Hide whole modalities of some rows. Each row keeps at least one of its modalities.

    rows: (B,) the row numbers in the dataset, by which `draws` gives each row its own random numbers. For a row with n
    modalities, 'subsets' keeps one of the 2^n - 2 incomplete, non-empty subsets, each equally likely; 'number' hides 1
    to n - 1 of them, each number equally likely; 'independent' hides each with its own probability (Neverova et al.,
    2015).
    """
    names = sorted(batch.present)
    has = np.stack([_of_rows(batch.observed(name)) for name in names])  # (M, B)
    uniform = draws.uniform(rows, len(names) + 2).numpy().T  # (M + 2, B)
    if isinstance(config, IndependentDropout):
        probability = np.array([config.probabilities.get(name, 0.0) for name in names])
        keep = has & (uniform[2:] >= probability[:, None])
        keep |= ~keep.any(axis=0) & _nth_present(has, _random_position(has, uniform[1]))
    elif isinstance(config, NumberDropout):
        hidden = (1 + uniform[1] * (has.sum(axis=0) - 1)).astype(np.int64)
        keep = _without_first_in_random_order(has, uniform[2:], hidden) | (uniform[0] >= config.probability)
    else:
        keep = _subset(has, uniform[1], uniform[2:]) | (uniform[0] >= config.probability)
    device = batch.present[names[0]].device
    return batch.kept({name: torch.from_numpy(kept).to(device) for name, kept in zip(names, keep, strict=True)})


def burst_deletion(batch: Batch, config: BurstDeletion, draws: Draws, rows: NDArray[np.int64]) -> Batch:
    """The sequences with a burst of consecutive steps hidden in some of their modalities.

    After arXiv:1905.13570, section 4. The length of a burst is uniform from 1 step to `longest` of the sequence; so is
    its beginning.
    """
    names = sorted(batch.present)
    lengths, device = batch.valid.sum(dim=1), batch.valid.device
    uniform = draws.uniform(rows, 3 * len(names)).reshape(len(rows), len(names), 3).to(device)
    longest = (config.longest * lengths).long().clamp(min=1).unsqueeze(1)  # (B, 1)
    burst = 1 + (uniform[..., 1] * longest).long()  # (B, M)
    start = (uniform[..., 2] * (lengths.unsqueeze(1) - burst + 1)).long()
    step = torch.arange(batch.valid.shape[1], device=device)
    inside = (step >= start.unsqueeze(2)) & (step < (start + burst).unsqueeze(2))  # (B, M, T)
    hidden = inside & (uniform[..., :1] < config.probability)
    return batch.kept({name: ~hidden[:, index] for index, name in enumerate(names)})


def random_subset(has: Tensor, uniform: Tensor, of_each: Tensor) -> Tensor:
    """A proper, non-empty subset of the modalities of every row, each equally likely: (M, B) bool.

    has: (M, B) bool. uniform: (B,), of_each: (M, B), in [0, 1). A row with a single modality keeps it. Subsets have the
    numbers 1 to 2^n - 2; bit i says whether the row keeps its i-th modality. With more than 24 modalities, each is kept
    with probability 1/2, and a single modality replaces the empty and the full subset, which are one in millions.
    """
    kept = _subset(has.cpu().numpy(), uniform.cpu().numpy(), of_each.cpu().numpy())
    return torch.from_numpy(kept).to(has.device)


def _of_rows(mask: Tensor) -> Mask:
    """Whether a row has a modality at any step: (B,) or (B, T) -> (B,)."""
    found: Mask = (mask.any(dim=1) if mask.ndim == 2 else mask).cpu().numpy()
    return found


def _subset(has: Mask, uniform: Uniform, of_each: Uniform) -> Mask:
    if len(has) > MAX_NUMBERED:
        keep = has & (of_each < 0.5)
        proper = keep.any(axis=0) & (keep != has).any(axis=0)
        return np.where(proper, keep, _nth_present(has, _random_position(has, uniform)))
    position = has.cumsum(axis=0)  # from 1
    count = position[-1]
    number = 1 + (uniform * np.maximum((1 << count) - 2, 1)).astype(np.int64)
    chosen: Mask = has & (number >> np.maximum(position - 1, 0) & 1).astype(np.bool_)
    return chosen


def _random_position(has: Mask, uniform: Uniform) -> Number:
    """A random position among the modalities that a row has, from 1: (B,)."""
    number: Number = 1 + (uniform * has.sum(axis=0)).astype(np.int64)
    return number


def _nth_present(has: Mask, number: Number) -> Mask:
    """The number-th of the modalities that a row has: (M, B)."""
    chosen: Mask = has & (has.cumsum(axis=0) == number)
    return chosen


def _without_first_in_random_order(has: Mask, uniform: Uniform, hidden: Number) -> Mask:
    """The modalities that a row has, without the first `hidden` of them in the order of `uniform` (M, B)."""
    order = np.where(has, uniform, 2.0).argsort(axis=0).argsort(axis=0)  # absent ones come last
    return has & (order >= np.where(has.sum(axis=0) > 1, hidden, 0))
