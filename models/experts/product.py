"""The product of experts."""

import torch
from torch import Tensor

from models import gaussian
from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian


class ProductOfExperts(Expert):
    """q(z | x) proportional to p(z) times the product of the present q(z | x_m) (arXiv:1802.05335, eq. 4)."""

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """One component: the normalised product, prior included."""
        return single(gaussian.product(experts, present))

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor:
        """Precision over the sum of all precisions, the prior's among them."""
        return shares(experts, present)


def single(joint: Gaussian) -> Posterior:
    """A posterior of one component: (B, Z) twice."""
    one = torch.ones_like(joint.mean[..., 0])
    return Posterior(Gaussian(joint.mean.unsqueeze(0), joint.standard_deviation.unsqueeze(0)), one.unsqueeze(0))


def shares(experts: Gaussian, present: Tensor) -> Tensor:
    """Precision of each modality over the sum of all precisions, averaged over latent features: (M, B)."""
    precision = torch.where(present.unsqueeze(-1), experts.standard_deviation.square().reciprocal(), 0.0)
    return (precision / precision.sum(dim=0)).mean(dim=-1)[1:]
