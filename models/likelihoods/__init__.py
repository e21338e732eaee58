"""Likelihoods p(x_m | z): the density of a modality's values, and the transforms of a network's inputs and outputs.

Encoders see standardised values. Everything else is in the user's units: log-densities are of the values as given, and
predictions are returned as such.

A likelihood is one file with a subclass of `Likelihood`, and its `Facts` in `models.config.likelihood`. A package adds
likelihoods by an entry point in the group sensorium.likelihoods that names the `Facts`.
"""

from pkgutil import resolve_name

from models.config import ModalityConfig
from models.likelihoods.base import InputTransform as InputTransform
from models.likelihoods.base import Likelihood as Likelihood
from models.likelihoods.metric import Chunk as Chunk
from models.likelihoods.metric import Metric as Metric


def build(modality: ModalityConfig) -> Likelihood:
    """The likelihood that the modality names."""
    likelihood: Likelihood = resolve_name(modality.facts.home)(modality)
    return likelihood
