"""The mixture of products of experts."""

import torch
from torch import Tensor

from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian, product_of_experts


class MixtureOfProducts(Expert):
    """The mean over all subsets of the present modalities of their product with the prior (arXiv:2105.02470, eq. 6).

    There are 2^M - 1 subsets, and each is decoded: for a handful of modalities. A row without any has the prior.
    """

    members: Tensor

    def __init__(self, modalities: int, latent_features: int) -> None:
        super().__init__(modalities, latent_features)
        number = torch.arange(2**modalities)
        members = (number.unsqueeze(1) >> torch.arange(modalities)) & 1
        self.register_buffer("members", members.bool())  # (2^M, M); row 0 is the empty subset

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """2^M components, one per subset. Subsets with an absent modality have weight 0.

        So does the empty subset, unless all modalities are absent.
        """
        given = present[1:]  # (M, B)
        inside = self.members.T.unsqueeze(-1) & given.unsqueeze(1)  # (M, 2^M, B)
        inside = torch.cat([torch.ones_like(inside[:1]), inside])  # the prior is in every product
        mean, precision = product_of_experts(experts.mean.unsqueeze(1), experts.precision.unsqueeze(1), inside)
        complete = (given.unsqueeze(0) | ~self.members.unsqueeze(2)).all(dim=1)  # (2^M, B): every member is present
        weight = torch.cat([~given.any(dim=0, keepdim=True), complete[1:]]).float()
        return Posterior(Gaussian(mean, precision.rsqrt()), weight / weight.sum(dim=0))
