"""Experts: methods, by name, that join the posteriors q(z | x_m) of the modalities into one q(z | x).

A package adds experts by an entry point in the group sensorium.experts that names a subclass of `Expert`.
"""

from importlib.metadata import entry_points

from models.config.architecture import EXPERTS_GROUP
from models.experts.expert import Expert as Expert
from models.experts.expert import Posterior as Posterior
from models.experts.hellinger import HellingerExpert
from models.experts.mixture import MixtureOfExperts
from models.experts.mixture_of_products import MixtureOfProducts
from models.experts.product import ProductOfExperts
from models.experts.weighted_product import WeightedProductOfExperts

EXPERTS: dict[str, type[Expert]] = {
    "product": ProductOfExperts,
    "weighted_product": WeightedProductOfExperts,
    "mixture": MixtureOfExperts,
    "mixture_of_products": MixtureOfProducts,
    "hellinger": HellingerExpert,
}


def build(name: str, modalities: int, latent_features: int) -> Expert:
    """The expert of this name: built-in, or the subclass of Expert that an entry point in sensorium.experts names."""
    if name in EXPERTS:
        return EXPERTS[name](modalities, latent_features)
    (found,) = entry_points(group=EXPERTS_GROUP, name=name)
    expert: Expert = found.load()(modalities, latent_features)
    return expert
