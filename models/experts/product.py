"""The product of experts."""

from torch import Tensor

from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian, precision_shares, product_of_experts


class ProductOfExperts(Expert):
    """q(z | x) proportional to p(z) times the product of the present q(z | x_m) (arXiv:1802.05335, eq. 4)."""

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """One component, the normalised product."""
        return Posterior.of_one(*product_of_experts(experts.mean, experts.precision, present))

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor:
        """Precision over the sum of all precisions, the prior's included."""
        return precision_shares(experts.precision, present)[1:]
