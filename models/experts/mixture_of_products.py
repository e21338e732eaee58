"""The mixture of products of experts."""

import torch
from torch import Tensor

from models import gaussian
from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian


class MixtureOfProducts(Expert):
    """The mean over all subsets of the present modalities of their product with the prior (arXiv:2105.02470, eq. 6).

    There are 2^M - 1 subsets, each decoded: for a handful of modalities. The prior stands for a row that has none.
    """

    members: Tensor

    def __init__(self, modalities: int, latent_features: int) -> None:
        super().__init__(modalities, latent_features)
        number = torch.arange(2**modalities)
        members = (number.unsqueeze(1) >> torch.arange(modalities)) & 1
        self.register_buffer("members", members.bool())  # (2^M, M); row 0 is the empty subset

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """2^M components, the subsets; those with an absent modality weigh nothing, nor does the empty one of many."""
        given = present[1:]  # (M, B)
        products = [
            gaussian.product(experts, torch.cat([present[:1], given & subset.unsqueeze(1)])) for subset in self.members
        ]
        whole = (given.unsqueeze(0) | ~self.members.unsqueeze(2)).all(dim=1)  # (2^M, B): every member is present
        whole = torch.cat([~given.any(dim=0, keepdim=True), whole[1:]]).float()
        mean, deviation = (torch.stack(parts) for parts in zip(*products, strict=True))
        return Posterior(Gaussian(mean, deviation), whole / whole.sum(dim=0))
