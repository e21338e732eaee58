"""The error of predictions in an evaluation, and the constant prediction with the lowest error."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.config import ModalityConfig


class Chunk(NamedTuple):
    """n present values of a modality, (n, *shape), and which of their elements are present, (n, *shape) bool.

    elements: None if all are present. The numbers of absent elements have no meaning.
    """

    values: NDArray[np.float64]
    elements: NDArray[np.bool_] | None = None

    @property
    def counts(self) -> int | NDArray[np.int64]:
        """How often each element is present: (*shape), or one number for all."""
        return len(self.values) if self.elements is None else np.count_nonzero(self.elements, axis=0)

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum of the present numbers of each element, (*shape)."""
        if self.elements is None:
            return np.asarray(self.values.sum(axis=0))
        return np.asarray(self.values.sum(axis=0, where=self.elements))


class Metric(ABC):
    """A mean over the elements of values, in the user's units. name: its name in an evaluation."""

    name: str

    @abstractmethod
    def of_elements(self, prediction: Tensor, value: Tensor) -> Tensor:
        """The error of each element, to be averaged: (N, *shape) twice -> (N, *shape)."""

    def of_mean(self, mean: float) -> float:
        """The metric, given the mean of `of_elements`."""
        return mean

    @abstractmethod
    def best_constant(self, chunks: Iterable[Chunk], modality: ModalityConfig) -> NDArray[np.float64]:
        """The constant with the lowest error for all these values: (*shape)."""


class RootMeanSquaredError(Metric):
    """sqrt(mean (prediction - x)^2); the mean of the values is the best constant."""

    name = "root_mean_squared_error"

    def of_elements(self, prediction: Tensor, value: Tensor) -> Tensor:
        """(prediction - x)^2."""
        return (prediction - value).double().square()

    def of_mean(self, mean: float) -> float:
        """Its square root."""
        return math.sqrt(mean)

    def best_constant(self, chunks: Iterable[Chunk], modality: ModalityConfig) -> NDArray[np.float64]:
        """The mean of each element; 0 without any value."""
        count, total = np.zeros(modality.shape), np.zeros(modality.shape)
        for chunk in chunks:
            count += chunk.counts
            total += chunk.total
        return np.asarray(total / np.maximum(count, 1))


class ErrorRate(Metric):
    """The share of categories that are predicted wrongly; the most frequent category is the best constant."""

    name = "error_rate"

    def of_elements(self, prediction: Tensor, value: Tensor) -> Tensor:
        """1 for another category, else 0."""
        return (prediction != value).double()

    def best_constant(self, chunks: Iterable[Chunk], modality: ModalityConfig) -> NDArray[np.float64]:
        """The most frequent category. Categories are scalars and have no masks per element."""
        counts = np.zeros(modality.categories or 0, np.int64)
        for chunk in chunks:
            counts += np.bincount(chunk.values.astype(np.int64), minlength=len(counts))
        return np.asarray(counts.argmax())
