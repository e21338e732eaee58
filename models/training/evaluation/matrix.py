"""Errors of every target given every observed subset of the modalities."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.likelihoods import Likelihood
from models.ops.philox import Draws
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation import linear
from models.training.evaluation.baseline import baselines
from models.training.evaluation.linear import Linear
from models.training.evaluation.rows import batches

# Up to this many modalities, all subsets are observed; beyond, each modality alone, all but one, and all.
MAX_FOR_ALL_SUBSETS = 4
DRAWS = 16
NOISE = 16
"""The stream of random numbers."""


def matrix(model: Model, dataset: Dataset, rows: Rows, train_rows: Rows, seed: int) -> list[dict[str, Any]]:
    """One entry per observed subset and target.

    The baselines are the best constant for the training rows, and for a missing target their best linear prediction.
    """
    device = next(model.parameters()).device
    reference = {name: constant.to(device) for name, constant in baselines(dataset, model, train_rows).items()}
    return [
        entry
        for observed in observed_subsets(list(model.index))
        for entry in _entries(model, dataset, rows, train_rows, observed, reference, seed)
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
    reference: dict[str, Tensor],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """An entry per target, from the rows that have all observed modalities."""
    rows = rows[data.rows_with_all(dataset, list(observed))[rows]]
    fitted = {
        name: linear.fit(model, dataset, train_rows, observed, name) for name in model.index if name not in observed
    }
    sums = {
        name: _Sums(model.likelihood(name), reference[name], fitted.get(name), name not in observed)
        for name in model.index
    }
    for targets, chunk in batches(model, dataset, rows, DRAWS):
        inputs = Batch(
            {name: targets.values[name] for name in observed},
            {name: targets.present[name] for name in observed},
            targets.lengths,
        )
        *steps, features = model.latent_shape(targets)
        noise = Draws(seed, 0, NOISE, model.backend).normal(chunk, *steps, DRAWS, features).movedim(-2, 0)
        noise = noise.to(next(iter(targets.present.values())).device)
        of_mean = model.decode(inputs, list(model.index), None)
        of_draws = model.decode(inputs, list(model.index), noise)
        seen = linear.features(model, inputs, observed)
        for name, one in sums.items():
            one.add(of_mean[name], of_draws[name], seen, targets, name)
    for name, one in sums.items():
        yield {"observed": list(observed), "target": name, **one.figures()}


class _Sums:
    """Sums of the errors of one target over the present elements of batches.

    missing: whether the target is not among the observed modalities.
    """

    def __init__(self, likelihood: Likelihood, reference: Tensor, fitted: Linear | None, missing: bool) -> None:
        self._likelihood = likelihood
        self._reference = reference
        self._linear = fitted
        self._missing = missing
        self.values = 0
        self.elements = 0
        self.error = 0.0
        self.reference_error = 0.0
        self.linear_error = 0.0
        self.log_likelihood = 0.0
        self.covered = 0

    def add(self, mean: Tensor, drawn: Tensor, seen: Tensor, targets: Batch, name: str) -> None:
        """mean: (1, B, ...) parameters of the posterior mean. drawn: (S, B, ...) of draws. seen: `linear.features`."""
        likelihood, metric = self._likelihood, self._likelihood.metric
        present, elements = targets.observed(name), targets.elements(name)
        value = targets.values[name][present]  # (N, *shape)
        elements = None if elements is None else elements[present]
        if not len(value):
            return
        of_mean, of_draws = (
            raw.flatten(1, present.ndim)[:, present.flatten()] for raw in (mean, drawn)
        )  # (1 or S, N, ...)
        self.values += len(value)
        self.elements += value.numel() if elements is None else int(elements.sum())
        self.error += _sum(metric.of_elements(likelihood.point(likelihood.describe(of_mean)), value), elements)
        self.reference_error += _sum(metric.of_elements(self._reference, value.double()), elements)
        if self._linear is not None:
            predicted = self._linear(seen[present]).reshape(value.shape)
            self.linear_error += _sum(metric.of_elements(predicted, value), elements)
        each = torch.stack([likelihood.log_prob(raw, value, elements) for raw in of_draws])
        self.log_likelihood += (each.logsumexp(dim=0) - math.log(len(each))).double().sum().item()
        if likelihood.has_intervals:
            absence = torch.full((len(value),), int(self._missing), device=value.device)  # 1: others are given
            spread = likelihood.widen(likelihood.describe(of_draws), absence, len(of_draws))
            self.covered += int(_sum(likelihood.covers(spread, value), elements))

    def figures(self) -> dict[str, Any]:
        """The errors of the model and of the baseline, in the user's units; None if no row has target and inputs."""
        metric = self._likelihood.metric
        figures: dict[str, Any] = {"metric": metric.name, "values": self.values}
        if not self.values:
            return figures | dict.fromkeys(("error", "baseline_error", "linear_error", "log_likelihood", "coverage_90"))
        error, reference = self.error / self.elements, self.reference_error / self.elements
        return figures | {
            "error": metric.of_mean(error),
            "baseline_error": metric.of_mean(reference),
            "linear_error": None if self._linear is None else metric.of_mean(self.linear_error / self.elements),
            "log_likelihood": self.log_likelihood / self.values,
            "coverage_90": self.covered / self.elements if self._likelihood.has_intervals else None,
        }


def _sum(numbers: Tensor, elements: Tensor | None) -> float:
    """The sum over the present elements; elements: a mask in the shape of `numbers`, None if all are present."""
    total: float = (numbers if elements is None else torch.where(elements, numbers, 0)).sum().item()
    return total
