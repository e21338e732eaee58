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

# Numbers of one modality that are drawn together. A modality with so many that this is less than 64 rows goes alone:
# the others need not be drawn in small parts.
MAX_NUMBERS = 2**23
FEW_ROWS = 64
# Masks of the elements of a modality, and the part that they hide.
MASKS, HIDDEN_PART = 8, 0.5


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
    large = [name for name in names if _numbers(model, name) * FEW_ROWS > MAX_NUMBERS]
    small = [name for name in names if name not in large]
    for group in [small, *([name] for name in large)] if small else [[name] for name in large]:
        for targets, chunk in chunks(model, dataset, rows, group):
            for given in _subsets(list(model.index)):
                if hidden := [name for name in group if name not in given]:
                    yield _hidden(model, targets, given, hidden, chunk)


def parts(model: Model, dataset: Dataset, rows: Rows, names: list[str], seed: int) -> Iterator[Hidden]:
    """The rows of samples with half of the elements of one modality hidden, at random, and all else given.

    A row has one of a few masks: a regression for each row would take long. `Hidden.known` names hidden elements.
    """
    random = np.random.default_rng(seed)
    for name in names:
        shape = model.likelihood(name).modality.shape
        if math.prod(shape) < 2:
            continue
        masks = torch.from_numpy(random.random((MASKS, *shape)) < HIDDEN_PART)
        for targets, chunk in chunks(model, dataset, rows, [name]):
            known = targets.known(name)
            hidden = masks[torch.from_numpy(chunk % MASKS)].to(known.device)
            inputs, asked = (
                Batch(targets.values, {**targets.present, name: known & mask}) for mask in (~hidden, hidden)
            )
            yield Hidden(0, [name], inputs, asked, inputs.observed(name), chunk)


def chunks(model: Model, dataset: Dataset, rows: Rows, names: list[str]) -> Iterator[tuple[Batch, Rows]]:
    """The rows on the model's device, as many at once as their draws fit into memory."""
    steps = 1 if dataset.offsets is None else int(np.diff(dataset.offsets)[rows].max())
    size = max(1, MAX_NUMBERS // (steps * max(_numbers(model, name) for name in names)))
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        yield data.batch_of(dataset, rows[start : start + size]).to(device), rows[start : start + size]


def _numbers(model: Model, name: str) -> int:
    """How many numbers of a modality are drawn for a row, or for a step."""
    return math.prod(model.likelihood(name).modality.shape) * values_per_row(0)


def _hidden(model: Model, targets: Batch, given: tuple[str, ...], names: list[str], rows: Rows) -> Hidden:
    inputs = targets.kept({name: _all(targets, name in given) for name in targets.present})
    has_given = _all(targets, True)
    for name in given:
        has_given = has_given & targets.observed(name)
    return Hidden(sum(1 << model.index[name] for name in given), names, inputs, targets, has_given, rows)


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    if len(names) > MAX_MODALITIES:
        yield from [(name,) for name in names]
        yield from [tuple(other for other in names if other != name) for name in names]
        return
    for number in range(2 ** len(names)):
        yield tuple(name for index, name in enumerate(names) if number >> index & 1)


def _all(targets: Batch, value: bool) -> Tensor:
    return torch.full((targets.rows,), value, device=next(iter(targets.present.values())).device)
