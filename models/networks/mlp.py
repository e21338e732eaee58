"""Fully connected networks."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from models.config import CNNConfig, EmbeddingConfig, MLPConfig, ModalityConfig
from models.networks.network import Network

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
}

PLAIN = MLPConfig()


class OneHot(nn.Module):
    """Categories (N,) to float vectors (N, K)."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.categories = categories

    def forward(self, value: Tensor) -> Tensor:
        """1 at the category, 0 elsewhere."""
        return functional.one_hot(value, self.categories).float()


def hidden_layer(
    linear: nn.Module, norm: nn.Module, config: MLPConfig | CNNConfig | EmbeddingConfig
) -> list[nn.Module]:
    """A linear map, then normalisation, activation and dropout as far as the config has them."""
    layers = [linear]
    if config.normalisation is not None:
        layers.append(norm)
    layers.append(ACTIVATIONS[config.activation]())
    if config.dropout:
        layers.append(nn.Dropout(config.dropout))
    return layers


def stack(
    in_features: int,
    hidden_features: Sequence[int],
    out_features: int,
    config: MLPConfig | CNNConfig | EmbeddingConfig = PLAIN,
) -> nn.Sequential:
    """Linear layers with the config's activation between them: (N, in_features) -> (N, out_features)."""
    layers: list[nn.Module] = []
    for width in hidden_features:
        layers += hidden_layer(nn.Linear(in_features, width), nn.LayerNorm(width), config)
        in_features = width
    return nn.Sequential(*layers, nn.Linear(in_features, out_features))


def shaped(shape: tuple[int, ...]) -> nn.Module:
    """Vectors (N, prod(shape)) as values (N, *shape)."""
    return nn.Unflatten(1, shape) if shape else nn.Flatten(0)


def encoder(config: MLPConfig, modality: ModalityConfig, out_features: int) -> nn.Module:
    """Fully connected encoder of flattened values or one-hot categories."""
    if modality.categories is not None:
        layers = stack(modality.categories, config.hidden_features, out_features, config)
        return nn.Sequential(OneHot(modality.categories), *layers)
    return nn.Sequential(
        nn.Flatten() if modality.shape else nn.Unflatten(0, (-1, 1)),
        *stack(math.prod(modality.shape), config.hidden_features, out_features, config),
    )


def decoder(config: MLPConfig, in_features: int, shape: tuple[int, ...]) -> nn.Module:
    """Fully connected decoder, the encoder's widths in reverse."""
    layers = stack(in_features, config.hidden_features[::-1], math.prod(shape), config)
    return nn.Sequential(*layers, shaped(shape))


NETWORK = Network(encoder, decoder)
