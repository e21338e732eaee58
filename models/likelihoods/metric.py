"""How the error of a prediction is measured in an evaluation, and which constant prediction has the lowest one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.config import ModalityConfig


class Metric(ABC):
    """A mean over the elements of values, in the user's units. name: as an evaluation reports it."""

    name: str

    @abstractmethod
    def of_elements(self, prediction: Tensor, value: Tensor) -> Tensor:
        """What is averaged, of each element: (N, *shape) twice -> (N, *shape)."""

    def of_mean(self, mean: float) -> float:
        """The metric, given the mean of `of_elements`."""
        return mean

    @abstractmethod
    def best_constant(self, values: Iterable[NDArray[np.float64]], modality: ModalityConfig) -> NDArray[np.float64]:
        """The constant with the lowest error for all these values, chunks (n, *shape): (*shape)."""


class RootMeanSquaredError(Metric):
    """sqrt(mean (prediction - x)^2); the mean of the values is the best constant."""

    name = "root_mean_squared_error"

    def of_elements(self, prediction: Tensor, value: Tensor) -> Tensor:
        """(prediction - x)^2."""
        return (prediction - value).double().square()

    def of_mean(self, mean: float) -> float:
        """Its square root."""
        return math.sqrt(mean)

    def best_constant(self, values: Iterable[NDArray[np.float64]], modality: ModalityConfig) -> NDArray[np.float64]:
        """The mean; 0 without any value."""
        count, total = 0, np.zeros(modality.shape)
        for chunk in values:
            count += len(chunk)
            total += chunk.sum(axis=0)
        return np.asarray(total / max(count, 1))


class ErrorRate(Metric):
    """Part of the categories that are predicted wrongly; the most frequent category is the best constant."""

    name = "error_rate"

    def of_elements(self, prediction: Tensor, value: Tensor) -> Tensor:
        """1 for another category, else 0."""
        return (prediction != value).double()

    def best_constant(self, values: Iterable[NDArray[np.float64]], modality: ModalityConfig) -> NDArray[np.float64]:
        """The most frequent category."""
        counts = np.zeros(modality.categories or 0, np.int64)
        for chunk in values:
            counts += np.bincount(chunk.astype(np.int64), minlength=len(counts))
        return np.asarray(counts.argmax())
