"""Experts: ways of joining the modalities' posteriors q(z | x_m) into one q(z | x)."""

import math
from abc import ABC, abstractmethod
from importlib.metadata import entry_points
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import gaussian
from models.config.architecture import EXPERTS_GROUP
from models.gaussian import Gaussian

WEIGHT_FLOOR = 1e-6


class Posterior(NamedTuple):
    """A mixture of C diagonal Gaussians: sum over c of weight_c N(mean_c, standard_deviation_c^2).

    components: (C, B, Z) twice. weight: (C, B), sums to 1 over C. A product of experts has C = 1.
    """

    components: Gaussian
    weight: Tensor

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
        """S equally likely draws, spread over the components in proportion to their weights.

        noise: (S, B or 1, Z) from N(0, I). Returns (S, B, Z). Draw s takes the component at quantile (s + 1/2) / S.
        """
        quantile = (torch.arange(len(noise), device=noise.device) + 0.5) / len(noise)
        below = self.weight.cumsum(dim=0)[:-1] < quantile[:, None, None]  # (S, C - 1, B)
        chosen = below.sum(dim=1).unsqueeze(-1).expand(-1, -1, noise.shape[-1])
        mean, deviation = (part.gather(0, chosen) for part in self.components)
        return gaussian.draw(Gaussian(mean, deviation), noise)


class Expert(nn.Module, ABC):
    """Base class of every way to join posteriors. Learned parameters, if any, belong to the subclass."""

    def __init__(self, modalities: int, latent_features: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.latent_features = latent_features

    @abstractmethod
    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """Join a prior and one posterior for each modality.

        experts: (1 + M, B, Z) twice; expert 0 is the prior. present: (1 + M, B) bool, all true for expert 0.
        A row's result depends on that row alone, and an absent expert changes nothing.
        """

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor | None:
        """Each modality's part of the joint precision, (M, B) from 0 to 1; None where there is no such thing."""
        return None


class ProductOfExperts(Expert):
    """q(z | x) proportional to p(z) times the product of the present q(z | x_m) (arXiv:1802.05335, eq. 4)."""

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """One component: the normalised product, prior included."""
        return _single(gaussian.product(experts, present))

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor:
        """Precision over the sum of all precisions, the prior's among them."""
        return _shares(experts, present)


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
        return _single(gaussian.product(self._weighted(experts), present))

    def shares(self, experts: Gaussian, present: Tensor) -> Tensor:
        """Weighted precision over the sum of all weighted precisions, the prior's among them."""
        return _shares(self._weighted(experts), present)

    def _weighted(self, experts: Gaussian) -> Gaussian:
        weight = torch.cat([torch.ones_like(self.raw_weight[:1]), functional.softplus(self.raw_weight)])
        # a precision times w is a deviation over sqrt(w); the floor keeps a weight of 0 from dividing by it
        deviation = experts.standard_deviation / weight.clamp(min=WEIGHT_FLOOR).sqrt().unsqueeze(1)
        return Gaussian(experts.mean, deviation)


class MixtureOfExperts(Expert):
    """The mean of q(z | x_m) over the present modalities (arXiv:1911.03393, eq. 2); the prior where none is."""

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """1 + M components; absent modalities weigh nothing, and the prior only where all are absent."""
        given = present[1:].float()
        nothing = (given.sum(dim=0, keepdim=True) == 0).float()
        weight = torch.cat([nothing, given])
        return Posterior(experts, weight / weight.sum(dim=0))


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


EXPERTS: dict[str, type[Expert]] = {
    "product": ProductOfExperts,
    "weighted_product": WeightedProductOfExperts,
    "mixture": MixtureOfExperts,
    "mixture_of_products": MixtureOfProducts,
}


def build(name: str, modalities: int, latent_features: int) -> Expert:
    """The expert of this name: one of ours, or a subclass of Expert that an entry point in sensorium.experts names."""
    if name in EXPERTS:
        return EXPERTS[name](modalities, latent_features)
    (found,) = entry_points(group=EXPERTS_GROUP, name=name)
    expert: Expert = found.load()(modalities, latent_features)
    return expert


def _single(joint: Gaussian) -> Posterior:
    one = torch.ones_like(joint.mean[..., 0])
    return Posterior(Gaussian(joint.mean.unsqueeze(0), joint.standard_deviation.unsqueeze(0)), one.unsqueeze(0))


def _shares(experts: Gaussian, present: Tensor) -> Tensor:
    precision = torch.where(present.unsqueeze(-1), experts.standard_deviation.square().reciprocal(), 0.0)
    return (precision / precision.sum(dim=0)).mean(dim=-1)[1:]
