"""The mixture of experts."""

import torch
from torch import Tensor

from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian


class MixtureOfExperts(Expert):
    """The mean of q(z | x_m) over the present modalities (arXiv:1911.03393, eq. 2); the prior if none is present."""

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """1 + M components. Absent modalities have weight 0; so does the prior, unless all are absent."""
        given = present[1:].float()
        nothing = (given.sum(dim=0, keepdim=True) == 0).float()
        weight = torch.cat([nothing, given])
        return Posterior(experts, weight / weight.sum(dim=0))
