"""The product of experts with learned weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import gaussian
from models.experts.expert import Expert, Posterior
from models.experts.product import shares, single
from models.gaussian import Gaussian

WEIGHT_FLOOR = 1e-6


class WeightedProductOfExperts(Expert):
    """q(z | x) proportional to p(z) prod_m q(z | x_m)^w_m, w >= 0 per modality and latent dimension, learned.

    The generalised product of arXiv:1410.7827, with weights that do not depend on x. They start at 1, a plain product.
    """

    def __init__(self, modalities: int, latent_features: int) -> None:
        super().__init__(modalities, latent_features)
        # softplus(log(e - 1)) = 1
        self.raw_weight = nn.Parameter(torch.full((modalities, latent_features), math.log(math.e - 1)))

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """One component: precisions add, each times its weight; the prior's weight is 1."""
        return single(gaussian.product(self._weighted(experts), present))

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor:
        """Weighted precision over the sum of all weighted precisions, the prior's among them."""
        return shares(self._weighted(experts), present)

    def _weighted(self, experts: Gaussian) -> Gaussian:
        weight = torch.cat([torch.ones_like(self.raw_weight[:1]), functional.softplus(self.raw_weight)])
        # a precision times w is a deviation over sqrt(w); the floor keeps a weight of 0 from dividing by it
        deviation = experts.standard_deviation / weight.clamp(min=WEIGHT_FLOOR).sqrt().unsqueeze(1)
        return Gaussian(experts.mean, deviation)
