"""The Gaussian likelihood."""

import math

import torch
from torch import Tensor

from models.likelihoods.continuous import Continuous


class GaussianLikelihood(Continuous):
    """N(x; mu, s^2)."""

    POWER = 2
    NORMALISATION = 0.5 * math.log(2 * math.pi)

    def misfit(self, ratio: Tensor) -> Tensor:
        """r^2 / 2."""
        return 0.5 * ratio.square()

    def standard_quantile(self, probability: Tensor) -> Tensor:
        """The probit."""
        probit: Tensor = torch.special.ndtri(probability)
        return probit

    def deviation(self, spread: float) -> float:
        """s."""
        return spread
