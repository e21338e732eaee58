"""The product of experts with learned weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian, precision_shares, product_of_experts


class WeightedProductOfExperts(Expert):
    """q(z | x) proportional to p(z) prod_m q(z | x_m)^w_m, with a learned w >= 0 per modality and latent dimension.

    The generalised product of arXiv:1410.7827, with weights that do not depend on x. They start at 1, a plain product.
    """

    def __init__(self, modalities: int, latent_features: int) -> None:
        super().__init__(modalities, latent_features)
        # softplus(log(e - 1)) = 1
        self.raw_weight = nn.Parameter(torch.full((modalities, latent_features), math.log(math.e - 1)))

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """One component, the normalised product of N(mean, 1 / (w precision)); the prior's weight is 1."""
        return Posterior.of_one(*product_of_experts(experts.mean, self._precision(experts), present))

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor:
        """Weighted precision over the sum of all weighted precisions, the prior's included."""
        return precision_shares(self._precision(experts), present)[1:]

    def _precision(self, experts: Gaussian) -> Tensor:
        """w precision, (1 + M, B, Z): a density to the power w has w times the precision."""
        weight = torch.cat([torch.ones_like(self.raw_weight[:1]), functional.softplus(self.raw_weight)])
        return weight.unsqueeze(1) * experts.precision
