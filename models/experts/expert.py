"""Base class of the experts: a joint posterior q(z | x) from the posteriors q(z | x_m) of the modalities."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import gaussian
from models.gaussian import Gaussian


class Posterior(NamedTuple):
    """A mixture of C diagonal Gaussians: sum over c of weight_c N(mean_c, standard_deviation_c^2).

    components: (C, B, Z) twice. weight: (C, B), sums to 1 over C. `of_one` has C = 1.
    """

    components: Gaussian
    weight: Tensor

    @classmethod
    def of_one(cls, mean: Tensor, precision: Tensor) -> "Posterior":
        """The posterior with one component. mean, precision: (B, Z)."""
        weight = torch.ones_like(mean[..., 0])
        return cls(Gaussian(mean.unsqueeze(0), precision.rsqrt().unsqueeze(0)), weight.unsqueeze(0))

    def moments(self) -> Gaussian:
        """Mean and standard deviation of the mixture, (B, Z) each, by the law of total variance."""
        if len(self.weight) == 1:
            return Gaussian(self.components.mean[0], self.components.standard_deviation[0])
        weight = self.weight.unsqueeze(-1)
        mean = (weight * self.components.mean).sum(dim=0)
        within = (weight * self.components.standard_deviation.square()).sum(dim=0)
        between = (weight * (self.components.mean - mean).square()).sum(dim=0)
        return Gaussian(mean, (within + between).sqrt())

    def draw(self, noise: Tensor) -> Tensor:
        """S equally likely draws, stratified over the components in proportion to their weights.

        noise: (S, B or 1, Z) from N(0, I). Returns (S, B, Z). Draw s uses the component at quantile (s + 1/2) / S.
        """
        quantile = (torch.arange(len(noise), device=noise.device) + 0.5) / len(noise)
        below = self.weight.cumsum(dim=0)[:-1] < quantile[:, None, None]  # (S, C - 1, B)
        chosen = below.sum(dim=1).unsqueeze(-1).expand(-1, -1, noise.shape[-1])
        mean, deviation = (part.gather(0, chosen) for part in self.components)
        return gaussian.draw(Gaussian(mean, deviation), noise)


class Expert(nn.Module, ABC):
    """Base class of the methods that join posteriors."""

    def __init__(self, modalities: int, latent_features: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.latent_features = latent_features

    @abstractmethod
    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """Join the prior and one posterior per modality.

        experts: (1 + M, B, Z) twice; expert 0 is the prior. present: (1 + M, B) bool, true for expert 0. A row's result
        depends on that row and its present experts only.
        """

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor | None:
        """Each modality's share in the joint precision, (M, B) from 0 to 1; None if the posterior is not a product."""
        return None
