"""Sums of the errors of one target's predictions: the model's, and those that need no model."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.batch import Batch
from models.likelihoods import Likelihood


class Errors:
    """Errors of one target over the present elements of batches.

    others: names of the predictions to compare with, such as "baseline": the figure of each is its name and "_error".
    """

    def __init__(self, name: str, likelihood: Likelihood, others: tuple[str, ...]) -> None:
        self._name = name
        self._likelihood = likelihood
        self._others: dict[str, float | None] = dict.fromkeys(others)
        self._values = 0
        self._elements = 0
        self._error = 0.0
        self._log_likelihood = 0.0
        self._covered = 0

    def add(
        self, mean: Tensor, drawn: Tensor, targets: Batch, absence: Tensor, others: Mapping[str, Tensor | None]
    ) -> None:
        """Add the rows or steps of a batch that have the target.

        mean: (1, B, ...) parameters of the posterior mean. drawn: (S, B, ...) of draws. absence: (B,) or (B, T), of the
        target as in `Batch.absence`, by which intervals are as wide. others: predictions that broadcast to the values,
        (B, *shape) or (B, T, *shape); None for one that cannot be made.
        """
        likelihood, metric = self._likelihood, self._likelihood.metric
        present, elements, value = (
            targets.observed(self._name),
            targets.elements(self._name),
            targets.values[self._name],
        )
        whole = value.shape
        value = value[present]  # (N, *shape)
        elements = None if elements is None else elements[present]
        if not len(value):
            return
        of_mean, of_draws = (
            raw.flatten(1, present.ndim)[:, present.flatten()] for raw in (mean, drawn)
        )  # (1 or S, N, ...)
        self._values += len(value)
        self._elements += value.numel() if elements is None else int(elements.sum())
        self._error += _sum(metric.of_elements(likelihood.point(likelihood.describe(of_mean)), value), elements)
        for name, prediction in others.items():
            if prediction is not None:
                apart = _sum(
                    metric.of_elements(prediction.expand(whole)[present], value.to(prediction.dtype)), elements
                )
                self._others[name] = (self._others[name] or 0.0) + apart
        each = torch.stack([likelihood.log_prob(raw, value, elements) for raw in of_draws])
        self._log_likelihood += (each.logsumexp(dim=0) - math.log(len(each))).double().sum().item()
        if likelihood.has_intervals:
            spread = likelihood.widen(likelihood.describe(of_draws), absence[present], len(of_draws))
            self._covered += int(_sum(likelihood.covers(spread, value), elements))

    def figures(self) -> dict[str, Any]:
        """The errors in the user's units, log-density and coverage; None if no row has target and inputs."""
        metric = self._likelihood.metric
        figures: dict[str, Any] = {"metric": metric.name, "values": self._values}
        others = {f"{name}_error": total for name, total in self._others.items()}
        if not self._values:
            return figures | dict.fromkeys(("error", *others, "log_likelihood", "coverage_90"))
        return {
            **figures,
            "error": metric.of_mean(self._error / self._elements),
            **{
                name: None if total is None else metric.of_mean(total / self._elements)
                for name, total in others.items()
            },
            "log_likelihood": self._log_likelihood / self._values,
            "coverage_90": self._covered / self._elements if self._likelihood.has_intervals else None,
        }


def _sum(numbers: Tensor, elements: Tensor | None) -> float:
    """The sum over the present elements; elements: a mask in the shape of `numbers`, None if all are present."""
    total: float = (numbers if elements is None else torch.where(elements, numbers, 0)).sum().item()
    return total
