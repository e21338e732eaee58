"""Errors of every target given every observed subset of the modalities."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.ops.philox import Draws
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation import linear
from models.training.evaluation.errors import Errors
from models.training.evaluation.rows import batches

# Up to this many modalities, all subsets are observed; beyond, each modality alone, all but one, and all.
MAX_FOR_ALL_SUBSETS = 4
DRAWS = 16
NOISE = 16
"""The stream of random numbers."""


def matrix(
    model: Model, dataset: Dataset, rows: Rows, train_rows: Rows, constants: Mapping[str, Tensor], seed: int
) -> list[dict[str, Any]]:
    """One entry per observed subset and target.

    The baselines are the training rows' best constants, and for a missing target their best linear prediction.
    """
    return [
        entry
        for observed in observed_subsets(list(model.index))
        for entry in _entries(model, dataset, rows, train_rows, observed, constants, seed)
    ]


def observed_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The subsets of the modalities that the model is given."""
    sizes = (
        range(1, len(names) + 1)
        if len(names) <= MAX_FOR_ALL_SUBSETS
        else dict.fromkeys((1, len(names) - 1, len(names)))
    )
    return [subset for size in sizes for subset in combinations(names, size)]


def _entries(
    model: Model,
    dataset: Dataset,
    rows: Rows,
    train_rows: Rows,
    observed: tuple[str, ...],
    constants: Mapping[str, Tensor],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """An entry per target, from the rows that have all observed modalities."""
    rows = rows[data.rows_with_all(dataset, list(observed))[rows]]
    fitted = {
        name: linear.fit(model, dataset, train_rows, observed, name) for name in model.index if name not in observed
    }
    errors = {name: Errors(name, model.likelihood(name), ("baseline", "linear")) for name in model.index}
    for targets, chunk in batches(model, dataset, rows, DRAWS):
        inputs = Batch(
            {name: targets.values[name] for name in observed},
            {name: targets.present[name] for name in observed},
            targets.lengths,
        )
        of_mean, of_draws = decoded(model, inputs, targets, seed, chunk)
        seen = linear.features(model, inputs, observed) if any(fitted.values()) else None
        for name, one in errors.items():
            # 1: others are given
            absence = torch.full_like(targets.observed(name), name not in observed, dtype=torch.long)
            found = fitted.get(name)
            line = None if found is None or seen is None else found(seen).reshape(targets.values[name].shape)
            others = {"baseline": constants[name], "linear": line}
            one.add(of_mean[name], of_draws[name], targets, absence, others)
    for name, one in errors.items():
        yield {"observed": list(observed), "target": name, **one.figures()}


def decoded(
    model: Model, inputs: Batch, targets: Batch, seed: int, rows: Rows
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Each modality's parameters of the posterior mean, (1, B, ...), and of 16 draws from it, (16, B, ...)."""
    *steps, features = model.latent_shape(targets)
    noise = Draws(seed, 0, NOISE, model.backend).normal(rows, *steps, DRAWS, features).movedim(-2, 0)
    noise = noise.to(next(iter(targets.present.values())).device)
    names = list(model.index)
    return model.decode(inputs, names, None), model.decode(inputs, names, noise)
