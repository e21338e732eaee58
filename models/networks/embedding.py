"""Networks for categories: a learned vector for each."""

from torch import nn

from models.config import EmbeddingConfig, ModalityConfig
from models.networks.mlp import ACTIVATIONS, shaped, stack
from models.networks.network import Network


def encoder(config: EmbeddingConfig, modality: ModalityConfig, out_features: int) -> nn.Module:
    """The category's vector through the hidden layers."""
    if modality.categories is None:
        raise ValueError(f"modality {modality.name!r} has no categories, and an embedding is of categories")
    vectors = nn.Embedding(modality.categories, config.features)
    return nn.Sequential(vectors, *stack(config.features, config.hidden_features, out_features, config))


def decoder(config: EmbeddingConfig, in_features: int, shape: tuple[int, ...]) -> nn.Module:
    """Hidden layers, a vector of the embedding's size, and a score for each category."""
    (categories,) = shape
    layers = stack(in_features, config.hidden_features[::-1], config.features, config)
    return nn.Sequential(
        *layers, ACTIVATIONS[config.activation](), nn.Linear(config.features, categories), shaped(shape)
    )


NETWORK = Network(encoder, decoder)
