"""Base class of likelihoods of counts: whole numbers from 0 on."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from models.config import ModalityConfig
from models.likelihoods.base import InputTransform, Likelihood, inner

# Beyond, float32 no longer tells one count from the next.
MOST_LOG_RATE = math.log(2.0**24)
# Quantiles of counts that may be larger are those of a gamma, the limit of both distributions.
MOST_SUMMED = 500
BISECTIONS = 60


class Count(Likelihood):
    """Counts of rate lambda = exp(offset + raw). Networks see log(1 + x), standardised."""

    offset: Tensor
    scale: Tensor

    def __init__(self, modality: ModalityConfig, parameters: int = 1) -> None:
        super().__init__(modality, parameters)
        self.register_buffer("offset", torch.zeros(modality.shape))
        self.register_buffer("scale", torch.ones(modality.shape))

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Standardise log(1 + x) with these from now on."""
        self.offset.copy_(mean)
        self.scale.copy_(torch.where(standard_deviation > 1e-6 * mean.abs(), standard_deviation, 1.0))

    def input_transform(self) -> InputTransform:
        """(log(1 + x) - offset) / scale."""
        return InputTransform(log1p=True, offset=self.offset, scale=self.scale)

    def log_rate(self, raw: Tensor) -> Tensor:
        """log lambda of every element: (..., *shape)."""
        return (self.offset + self.split(raw)[0]).clamp(max=MOST_LOG_RATE)

    @abstractmethod
    def variance(self, raw: Tensor) -> Tensor:
        """Variance of every element given the parameters."""

    @abstractmethod
    def first_and_ratio(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """p(0), and a and b of p(k + 1) / p(k) = (a + b k) / (k + 1)."""

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Rate and standard deviation of the mixture of the draws, by the law of total variance."""
        rate = self.log_rate(raw).exp()
        variance = self.variance(raw).mean(dim=0) + rate.var(dim=0, correction=0)
        return {"rate": rate.mean(dim=0), "standard_deviation": variance.sqrt()}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """Adds up probabilities from 0 on; where that takes long, a gamma of the same moments, rounded."""
        rate, variance = self.log_rate(raw).exp().double(), self.variance(raw).double()
        probability = inner(probability).double().expand_as(rate)
        few = rate + 10 * variance.sqrt() <= MOST_SUMMED
        # in float32 p(0) of a rate above 103 is 0, and so would be all that is computed from it
        mass, start, slope = (part.double() for part in self.first_and_ratio(raw.double()))
        below = mass.clone()
        count = torch.zeros_like(rate)
        for k in range(MOST_SUMMED):
            beyond = few & (below < probability) & (mass > 0)
            if not beyond.any():
                break
            count += beyond
            mass = mass * (start + slope * k) / (k + 1)
            below = below + mass
        if few.all():
            return count.float()
        return torch.where(few, count, _gamma_quantile(rate, variance, probability).round()).float()

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The rate."""
        return described["rate"]


def _gamma_quantile(mean: Tensor, variance: Tensor, probability: Tensor) -> Tensor:
    """The quantile of a gamma distribution with these moments, by bisection of its distribution function."""
    shape, scale = mean.square() / variance, variance / mean
    low, high = torch.zeros_like(mean), mean + 40 * variance.sqrt()
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = torch.special.gammainc(shape, middle / scale) < probability
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high
