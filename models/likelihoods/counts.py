"""Base class of likelihoods of counts: whole numbers, 0 or more."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from models.config import ModalityConfig
from models.likelihoods.base import InputTransform, Likelihood, inner

# Above this rate, float32 does not distinguish a count from the next.
MAX_LOG_RATE = math.log(2.0**24)

Array = np.ndarray[Any, np.dtype[np.float64]]


class Count(Likelihood):
    """Counts of rate lambda = exp(offset + raw). Encoders see log(1 + x), standardised."""

    needs_statistics: ClassVar[bool] = True

    offset: Tensor
    scale: Tensor

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality)
        self.register_buffer("offset", torch.zeros(modality.shape))
        self.register_buffer("scale", torch.ones(modality.shape))

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Standardise log(1 + x) with these; an element that never varies is only shifted."""
        self.offset.copy_(mean)
        self.scale.copy_(torch.where(standard_deviation > 1e-6 * mean.abs(), standard_deviation, 1.0))

    def input_transform(self) -> InputTransform:
        """(log(1 + x) - offset) / scale."""
        return InputTransform(log1p=True, offset=self.offset, scale=self.scale)

    def log_rate(self, raw: Tensor) -> Tensor:
        """log lambda of every element: (..., *shape)."""
        return (self.offset + self.split(raw)[0]).clamp(max=MAX_LOG_RATE)

    @abstractmethod
    def variance(self, raw: Tensor) -> Tensor:
        """Variance of every element given the parameters."""

    @abstractmethod
    def distribution_parameters(self, raw: Tensor) -> tuple[Array, ...]:
        """The parameters of `distribution`: (..., *shape) each; raw: in float64."""

    @staticmethod
    @abstractmethod
    def distribution(count: Array, *parameters: Array) -> Array:
        """P(x <= count) of every element, by SciPy."""

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Rate and standard deviation of the mixture of the draws, by the law of total variance."""
        rate = self.log_rate(raw).exp()
        variance = self.variance(raw).mean(dim=0) + rate.var(dim=0, correction=0)
        return {"rate": rate.mean(dim=0), "standard_deviation": variance.sqrt()}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """The smallest count k with P(x <= k) >= probability."""
        # in float32 p(0) of a rate above 103 is 0
        exact = raw.detach().double()
        given = [inner(probability).double(), self.log_rate(exact).exp(), self.variance(exact)]
        arrays = (tensor.detach().cpu().numpy() for tensor in given)
        chance, rate, variance, *parameters = np.broadcast_arrays(*arrays, *self.distribution_parameters(exact))
        # Cornish-Fisher expansion; the third cumulant of both likelihoods is variance * (2 variance / rate - 1)
        z = special.ndtri(chance)
        guess = rate + z * np.sqrt(variance) + (z**2 - 1) / 6 * (2 * variance / rate - 1)
        flat = [parameter.ravel() for parameter in parameters]
        count = self._first_count(flat, chance.ravel(), np.maximum(np.ceil(guess.ravel()), 0))
        return torch.from_numpy(count.reshape(rate.shape).astype(np.float32)).to(raw.device)

    def _first_count(self, parameters: Sequence[Array], chance: Array, guess: Array) -> Array:
        """The smallest counts whose distribution reaches `chance`, searched from a guess: (N,) each.

        The distance from the guess doubles until the count is between two counts; then bisection. NaN propagates.
        """
        low, high = np.full(len(guess), -1.0), np.where(np.isnan(guess), np.nan, np.inf)
        searched = np.flatnonzero(~np.isnan(guess))
        count, step = guess[searched], 1.0
        while len(searched):
            is_reached = self.distribution(count, *(each[searched] for each in parameters)) >= chance[searched]
            high[searched[is_reached]] = count[is_reached]
            low[searched[~is_reached]] = count[~is_reached]
            searched = searched[high[searched] - low[searched] > 1]
            below, above = low[searched], high[searched]
            outside = np.where(below < 0, np.maximum(above - step, 0), below + step)
            count = np.where((below < 0) | np.isinf(above), outside, np.floor((below + above) / 2))
            step *= 2
        return high

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The rate."""
        return described["rate"]
