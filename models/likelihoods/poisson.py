"""The Poisson likelihood."""

import torch
from torch import Tensor

from models.likelihoods.counts import Count


class PoissonLikelihood(Count):
    """Poisson(x; lambda): variance lambda."""

    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """x log lambda - lambda - log x!."""
        log_rate = self.log_rate(raw)
        return value * log_rate - log_rate.exp() - (value + 1).lgamma()

    def variance(self, raw: Tensor) -> Tensor:
        """lambda."""
        return self.log_rate(raw).exp()

    def first_and_ratio(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """exp(-lambda); lambda and 0."""
        rate = self.log_rate(raw).exp()
        return (-rate).exp(), rate, torch.zeros_like(rate)
