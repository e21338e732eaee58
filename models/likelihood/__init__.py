"""Likelihoods p(x_m | z): what a modality's values are distributed as, and how they enter and leave a network.

Networks see standardised values. Everything else is in the user's units: log-densities are of the values as given,
and predictions come back as such.
"""

from models.config import LikelihoodName, ModalityConfig
from models.likelihood.base import Likelihood as Likelihood
from models.likelihood.continuous import GaussianLikelihood, LaplaceLikelihood
from models.likelihood.counts import NegativeBinomialLikelihood, PoissonLikelihood
from models.likelihood.discrete import BernoulliLikelihood, CategoricalLikelihood

LIKELIHOODS: dict[LikelihoodName, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "bernoulli": BernoulliLikelihood,
    "categorical": CategoricalLikelihood,
    "poisson": PoissonLikelihood,
    "negative_binomial": NegativeBinomialLikelihood,
}


def build(modality: ModalityConfig) -> Likelihood:
    """The likelihood that the modality names."""
    return LIKELIHOODS[modality.likelihood](modality)
