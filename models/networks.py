"""Encoders and decoders of one modality, by name.

An encoder maps standardised values (N, *shape), or categories (N,), to features (N, out_features). A decoder maps
codes (N, in_features) to likelihood parameters (N, *shape).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from models.config import ModalityConfig, NetworkConfig


class OneHot(nn.Module):
    """Categories (N,) to float vectors (N, K)."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.categories = categories

    def forward(self, value: Tensor) -> Tensor:
        """1 at the category, 0 elsewhere."""
        return functional.one_hot(value, self.categories).float()


def mlp(in_features: int, hidden_features: Sequence[int], out_features: int) -> nn.Sequential:
    """Linear layers with SiLU between them: (N, in_features) -> (N, out_features)."""
    layers: list[nn.Module] = []
    for width in hidden_features:
        layers += [nn.Linear(in_features, width), nn.SiLU()]
        in_features = width
    return nn.Sequential(*layers, nn.Linear(in_features, out_features))


def mlp_encoder(config: NetworkConfig, modality: ModalityConfig, out_features: int) -> nn.Module:
    """Fully connected encoder of flattened values or one-hot categories."""
    if modality.categories is not None:
        return nn.Sequential(
            OneHot(modality.categories), *mlp(modality.categories, config.hidden_features, out_features)
        )
    return nn.Sequential(
        nn.Flatten() if modality.shape else nn.Unflatten(0, (-1, 1)),
        *mlp(math.prod(modality.shape), config.hidden_features, out_features),
    )


def mlp_decoder(config: NetworkConfig, in_features: int, shape: tuple[int, ...]) -> nn.Module:
    """Fully connected decoder, the encoder's widths in reverse."""
    layers = mlp(in_features, config.hidden_features[::-1], math.prod(shape))
    return nn.Sequential(*layers, nn.Unflatten(1, shape) if shape else nn.Flatten(0))


class Network(NamedTuple):
    """How to build the two halves of one kind of network."""

    encoder: Callable[[NetworkConfig, ModalityConfig, int], nn.Module]
    decoder: Callable[[NetworkConfig, int, tuple[int, ...]], nn.Module]


NETWORKS: dict[str, Network] = {"mlp": Network(mlp_encoder, mlp_decoder)}


def encoder(config: NetworkConfig, modality: ModalityConfig, out_features: int) -> nn.Module:
    """The encoder that `config.name` names, for values of this modality."""
    return NETWORKS[config.name].encoder(config, modality, out_features)


def decoder(config: NetworkConfig, in_features: int, shape: tuple[int, ...]) -> nn.Module:
    """The decoder that `config.name` names, giving parameters of this shape."""
    return NETWORKS[config.name].decoder(config, in_features, shape)
