"""Modality dropout: hide modalities from the inputs, so that a model learns to do without them."""

import torch
from torch import Tensor

from models.batch import Batch


def modality_dropout(batch: Batch, probability: float, generator: torch.Generator) -> Batch:
    """The batch with whole modalities of some rows hidden; use it as inputs and the batch itself as targets.

    With `probability` a row keeps one of the 2^n - 2 incomplete, non-empty subsets of the n modalities it has, each
    equally likely; a row with a single modality keeps it. Values are shared with `batch`: only presence changes, so
    whoever reads values must mask them. `generator` lives on the CPU: masks are the same on every device.
    """
    masks = torch.stack(list(batch.present.values()))  # (M, B) or (M, B, T)
    has = masks.flatten(2).any(dim=2) if masks.ndim == 3 else masks  # (M, B)
    chance = torch.rand(2, batch.rows, generator=generator, dtype=torch.float64).to(has.device)
    keep = _random_subset(has, chance[0]) | (chance[1] >= probability)
    hidden = masks & (keep.unsqueeze(2) if masks.ndim == 3 else keep)
    return Batch(values=batch.values, present=dict(zip(batch.present, hidden, strict=True)), lengths=batch.lengths)


def _random_subset(has: Tensor, chance: Tensor) -> Tensor:
    """A proper, non-empty subset of every row's modalities, uniformly: (M, B) bool, chance (B,) in [0, 1).

    A number from 1 to 2^n - 2 is the subset: bit i tells whether the row's i-th modality stays.
    """
    count = has.sum(dim=0)
    number = 1 + (chance * (2**count - 2).clamp(min=1)).long()
    position = (has.cumsum(dim=0) - 1).clamp(min=0)
    return has & ((number >> position) & 1).bool()
