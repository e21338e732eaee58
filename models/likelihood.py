"""Likelihoods p(x_m | y): what a modality's values are distributed as, and how they enter and leave a network.

Networks see standardised values. Everything else is in the user's units: log-densities are of the values as given,
and predictions come back as such.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import gaussian
from models.config import LikelihoodName, ModalityConfig
from models.gaussian import Gaussian


class Likelihood(nn.Module, ABC):
    """Base class of the densities of one modality. N is any number of values (samples, or samples times steps).

    parameter_shape: shape of what a decoder must give for one value.
    """

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__()
        self.modality = modality
        self.parameter_shape = modality.shape

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Take over the training data's elementwise statistics, each of the modality's shape."""

    def standardise(self, value: Tensor) -> Tensor:
        """Values as networks take them: (N, *shape) -> (N, *shape)."""
        return value

    @abstractmethod
    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """log p(value | raw) in nats, summed over a value's dimensions.

        raw: (N, *parameter_shape) from the decoder. value: (N, *shape) in the user's units. Returns (N,).
        """

    def adapt(self, raw: Tensor, value: Tensor, present: Tensor) -> None:
        """Move parameters that have a closed form towards their optimum on a training batch; present: (N,) bool."""

    @abstractmethod
    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """The predictive distribution in the user's units, averaged over S equally likely draws of the latent.

        raw: (S, N, *parameter_shape). Returns name -> (N, ...).
        """


class GaussianLikelihood(Likelihood):
    """N(x; mu(y), sigma^2): mu from the decoder, sigma learned.

    A vector has one scale per feature, for both standardisation and sigma: its features may differ in unit. Values of
    rank 2 and more, as images, have one scale in all: their elements share a unit, and a pixel that is the same in
    every sample would otherwise earn an unbounded density.

    sigma^2 is the running average of the squared error, which is its maximum-likelihood value given the decoder
    (arXiv:2006.13202, section 3.2); a gradient on log sigma moves too slowly and ends up worse.
    """

    # Weight of the past in the running average: about 50 batches.
    DECAY = 0.98
    # In units of the data's variance: an error of 1 % of the spread is as good as none.
    VARIANCE_FLOOR = 1e-4

    offset: Tensor
    scale: Tensor
    variance: Tensor

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality)
        shape = modality.shape if len(modality.shape) <= 1 else (1,) * len(modality.shape)
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("variance", torch.ones(shape))

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Standardise with these from now on; what never varies is only shifted."""
        mean, variance = mean.double(), standard_deviation.double().square()
        if len(self.modality.shape) > 1:
            variance = (variance.mean() + mean.var(correction=0)).expand_as(self.scale)
            mean = mean.mean().expand_as(self.offset)
        deviation = variance.sqrt()
        # float32 data that differ by rounding only do not vary.
        varies = deviation > 1e-6 * mean.abs()
        self.offset.copy_(mean)
        self.scale.copy_(torch.where(varies, deviation, 1.0))

    def standardise(self, value: Tensor) -> Tensor:
        """(value - offset) / scale."""
        return (value - self.offset) / self.scale

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """Sum of log N(value; offset + scale raw, (scale sigma)^2), computed where numbers are of size 1."""
        density = gaussian.log_density(self.standardise(value), Gaussian(raw, self.variance.sqrt().expand_as(raw)))
        return _sum(density - self.scale.log())

    @torch.no_grad()
    def adapt(self, raw: Tensor, value: Tensor, present: Tensor) -> None:
        """One step of the running average of the squared error of the present values."""
        mask = present.reshape(-1, *[1] * len(self.modality.shape))
        error = torch.where(mask, raw - self.standardise(value), 0.0).square()
        count = present.sum()
        mean = error.sum(dim=0) / count.clamp(min=1)
        if len(self.modality.shape) > 1:
            mean = mean.mean().expand_as(self.variance)
        # A batch without this modality teaches nothing about it.
        weight = (1 - self.DECAY) * (count > 0)
        self.variance.lerp_(mean.clamp(min=self.VARIANCE_FLOOR), weight)

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Mean and standard deviation of the mixture of the draws, by the law of total variance.

        mean = E[mu], variance = sigma^2 + Var[mu], over the draws.
        """
        variance = (self.variance + raw.var(dim=0, correction=0)) * self.scale.square()
        return {"mean": self.offset + self.scale * raw.mean(dim=0), "standard_deviation": variance.sqrt()}


class BernoulliLikelihood(Likelihood):
    """Bernoulli(x; sigmoid(raw)) for every element; values between 0 and 1 count as probabilities of a 1."""

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """Sum of x log p + (1 - x) log(1 - p)."""
        return -_sum(functional.binary_cross_entropy_with_logits(raw, value, reduction="none"))

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Probability of a 1, averaged over the draws."""
        return {"probability": raw.sigmoid().mean(dim=0)}


class CategoricalLikelihood(Likelihood):
    """Categorical(x; softmax(raw)) over K categories."""

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality)
        if modality.categories is None:
            raise ValueError(f"modality {modality.name!r} has no categories, expected their number")
        self.parameter_shape = (modality.categories,)

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """log softmax(raw)[value]."""
        return -functional.cross_entropy(raw, value, reduction="none")

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Probabilities (N, K) averaged over the draws, and the most likely category (N,)."""
        probabilities = raw.softmax(dim=-1).mean(dim=0)
        return {"probabilities": probabilities, "category": probabilities.argmax(dim=-1)}


LIKELIHOODS: dict[LikelihoodName, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "bernoulli": BernoulliLikelihood,
    "categorical": CategoricalLikelihood,
}


def build(modality: ModalityConfig) -> Likelihood:
    """The likelihood that the modality names."""
    return LIKELIHOODS[modality.likelihood](modality)


def _sum(density: Tensor) -> Tensor:
    """Sum over everything but the first axis: (N, ...) -> (N,)."""
    return density.reshape(len(density), -1).sum(dim=1)
