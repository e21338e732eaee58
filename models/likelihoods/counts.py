"""Base class of likelihoods of counts: whole numbers from 0 on."""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.config import ModalityConfig
from models.likelihoods.base import InputTransform, Likelihood, inner

# Beyond, float32 no longer tells one count from the next.
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
        """Standardise log(1 + x) with these from now on; an element that never varies is only shifted."""
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
    def distribution(self, raw: Tensor, count: Array) -> Array:
        """P(x <= count) of every element, by SciPy; raw: in float64."""

    @abstractmethod
    def real_quantile(self, raw: Tensor, probability: Array) -> Array:
        """Where the distribution function, continued between whole numbers, is `probability`; raw: in float64."""

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Rate and standard deviation of the mixture of the draws, by the law of total variance."""
        rate = self.log_rate(raw).exp()
        variance = self.variance(raw).mean(dim=0) + rate.var(dim=0, correction=0)
        return {"rate": rate.mean(dim=0), "standard_deviation": variance.sqrt()}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """The smallest count k with P(x <= k) >= probability."""
        # in float32 p(0) of a rate above 103 is 0
        exact = raw.detach().double()
        chance = inner(probability).cpu().double().numpy()
        count = np.maximum(np.ceil(self.real_quantile(exact, chance)), 0)
        # rounding may leave the real number just above a whole one
        below = np.maximum(count - 1, 0)
        count = np.where(self.distribution(exact, below) >= chance, below, count)
        return torch.from_numpy(count.astype(np.float32)).to(raw.device)

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The rate."""
        return described["rate"]
