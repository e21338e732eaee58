"""The negative binomial likelihood."""

import math

import torch
from scipy import special
from torch import Tensor, nn
from torch.nn import functional

from models.config import ModalityConfig
from models.likelihoods.counts import Array, Count


class NegativeBinomialLikelihood(Count):
    """NB(x; lambda, r): mean lambda, variance lambda + lambda^2 / r; the dispersion r is learned or predicted.

    The form that is usual for overdispersed counts such as those of sequencing (doi:10.1038/s41592-018-0229-2).
    """

    # data cannot distinguish an r of thousands from a Poisson, and lgamma(x + r) - lgamma(r) cancels in float32
    MAX_DISPERSION = 1e3
    MIN_DISPERSION = 1e-3

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality)
        predicted = modality.scale == "predicted"
        # softplus(log(e - 1)) = 1
        self.raw_dispersion = None if predicted else nn.Parameter(torch.full(modality.shape, math.log(math.e - 1)))

    def dispersion(self, raw: Tensor) -> Tensor:
        """r, which broadcasts to (..., *shape)."""
        unbounded = self.split(raw)[1] if self.raw_dispersion is None else self.raw_dispersion
        return functional.softplus(unbounded).clamp(self.MIN_DISPERSION, self.MAX_DISPERSION)

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

    @staticmethod
    def distribution(count: Array, *parameters: Array) -> Array:
        """The regularised incomplete beta function I_p(r, count + 1), p = r / (r + lambda)."""
        dispersion, chance = parameters
        found: Array = special.betainc(dispersion, count + 1, chance)
        return found

    def distribution_parameters(self, raw: Tensor) -> tuple[Array, ...]:
        """r and p = r / (r + lambda)."""
        rate = self.log_rate(raw).exp()
        dispersion = self.dispersion(raw).detach().double().expand_as(rate)
        return dispersion.cpu().numpy(), (dispersion / (dispersion + rate)).cpu().numpy()
