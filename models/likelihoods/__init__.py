"""Likelihoods p(x_m | z): what a modality's values are distributed as, and how they enter and leave a network.

Networks see standardised values. Everything else is in the user's units: log-densities are of the values as given,
and predictions come back as such.
"""

from models.config import LikelihoodName, ModalityConfig
from models.likelihoods.base import Likelihood as Likelihood
from models.likelihoods.bernoulli import BernoulliLikelihood
from models.likelihoods.categorical import CategoricalLikelihood
from models.likelihoods.gaussian import GaussianLikelihood
from models.likelihoods.laplace import LaplaceLikelihood
from models.likelihoods.negative_binomial import NegativeBinomialLikelihood
from models.likelihoods.poisson import PoissonLikelihood

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
