"""The Laplace likelihood."""

import math

import torch
from torch import Tensor

from models.likelihoods.continuous import Continuous


class LaplaceLikelihood(Continuous):
    """Laplace(x; mu, s): density exp(-|x - mu| / s) / 2 s. Outliers cost less than under a Gaussian."""

    POWER = 1
    NORMALISATION = math.log(2)

    def misfit(self, ratio: Tensor) -> Tensor:
        """|r|."""
        return ratio.abs()

    def standard_quantile(self, probability: Tensor) -> Tensor:
        """-sign(p - 1/2) log(1 - 2 |p - 1/2|)."""
        side = probability - 0.5
        return -side.sign() * torch.log1p(-2 * side.abs())

    def deviation(self, spread: float) -> float:
        """sqrt(2) s."""
        return math.sqrt(2) * spread
