"""Held-out rows with a modality hidden, under each pattern of what else is given."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.config.conditional import values_per_row
from models.draw_calibration import MAX_MODALITIES
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset

# Numbers of one modality that are drawn together.
MAX_NUMBERS = 2**23


class Hidden(NamedTuple):
    """Some rows under one pattern: bit i of its number says that the i-th modality is given.

    names: the modalities that are hidden, of those that were asked for. targets: all that the rows have. has_given:
    (B,), which rows have all that the pattern names.
    """

    pattern: int
    names: list[str]
    inputs: Batch
    targets: Batch
    has_given: Tensor
    rows: Rows

    def known(self, name: str) -> Tensor:
        """The elements of a hidden modality whose errors count: (B, *shape)."""
        known = self.targets.known(name)
        return known & self.has_given.reshape(-1, *[1] * (known.ndim - 1))


def patterns(model: Model, dataset: Dataset, rows: Rows, names: list[str]) -> Iterator[Hidden]:
    """The rows of samples under each pattern that hides one of the names.

    Of many modalities, each one alone is given, or all but one.
    """
    every = list(model.index)
    for targets, chunk in chunks(model, dataset, rows, names):
        for given in _subsets(every):
            hidden = [name for name in names if name not in given]
            if not hidden:
                continue
            inputs = targets.kept({name: _all(targets, name in given) for name in targets.present})
            has_given = _all(targets, True)
            for name in given:
                has_given = has_given & targets.observed(name)
            yield Hidden(sum(1 << model.index[name] for name in given), hidden, inputs, targets, has_given, chunk)


def chunks(model: Model, dataset: Dataset, rows: Rows, names: list[str]) -> Iterator[tuple[Batch, Rows]]:
    """The rows on the model's device, as many at once as their draws fit into memory."""
    elements = max(math.prod(model.likelihood(name).modality.shape) for name in names)
    steps = 1 if dataset.offsets is None else int(np.diff(dataset.offsets)[rows].max())
    size = max(1, MAX_NUMBERS // (elements * steps * values_per_row(0)))
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        yield data.batch_of(dataset, rows[start : start + size]).to(device), rows[start : start + size]


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    if len(names) > MAX_MODALITIES:
        yield from [(name,) for name in names]
        yield from [tuple(other for other in names if other != name) for name in names]
        return
    for number in range(2 ** len(names)):
        yield tuple(name for index, name in enumerate(names) if number >> index & 1)


def _all(targets: Batch, value: bool) -> Tensor:
    return torch.full((targets.rows,), value, device=next(iter(targets.present.values())).device)
