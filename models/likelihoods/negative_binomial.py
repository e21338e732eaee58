"""The negative binomial likelihood."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import ModalityConfig
from models.likelihoods.counts import Count


class NegativeBinomialLikelihood(Count):
    """NB(x; lambda, r): mean lambda, variance lambda + lambda^2 / r; the dispersion r is learned or predicted.

    The form that is usual for overdispersed counts such as those of sequencing (doi:10.1038/s41592-018-0229-2).
    """

    # An r of thousands is a Poisson in all that data can tell, and lgamma(x + r) - lgamma(r) cancels in float32.
    MOST_DISPERSION = 1e3
    LEAST_DISPERSION = 1e-3

    def __init__(self, modality: ModalityConfig) -> None:
        predicted = modality.scale == "predicted"
        super().__init__(modality, parameters=2 if predicted else 1)
        # softplus(log(e - 1)) = 1
        self.raw_dispersion = None if predicted else nn.Parameter(torch.full(modality.shape, math.log(math.e - 1)))

    def dispersion(self, raw: Tensor) -> Tensor:
        """r, which broadcasts to (..., *shape)."""
        unbounded = self.split(raw)[1] if self.raw_dispersion is None else self.raw_dispersion
        return functional.softplus(unbounded).clamp(self.LEAST_DISPERSION, self.MOST_DISPERSION)

    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """log of Gamma(x + r) / (Gamma(r) x!) (r / (r + lambda))^r (lambda / (r + lambda))^x."""
        log_rate = self.log_rate(raw)
        dispersion = self.dispersion(raw).expand_as(log_rate)
        log_sum = torch.logaddexp(log_rate, dispersion.log())
        choose = (value + dispersion).lgamma() - dispersion.lgamma() - (value + 1).lgamma()
        return choose + dispersion * (dispersion.log() - log_sum) + value * (log_rate - log_sum)

    def variance(self, raw: Tensor) -> Tensor:
        """lambda + lambda^2 / r."""
        rate = self.log_rate(raw).exp()
        return rate + rate.square() / self.dispersion(raw)

    def first_and_ratio(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(r / (r + lambda))^r; r q and q, with q = lambda / (r + lambda)."""
        rate = self.log_rate(raw).exp()
        dispersion = self.dispersion(raw).expand_as(rate)
        odds = rate / (dispersion + rate)
        return (1 - odds).pow(dispersion), dispersion * odds, odds
