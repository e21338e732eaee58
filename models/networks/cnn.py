"""Convolutional networks for images."""

import math
from itertools import pairwise

from torch import nn

from models.config import CNNConfig, ModalityConfig
from models.networks.mlp import hidden_layer, stack
from models.networks.network import Network


def encoder(config: CNNConfig, modality: ModalityConfig, out_features: int) -> nn.Module:
    """Convolutions of stride 2, each half the height and width (rounded up), then fully connected layers."""
    channels, *size = modality.shape
    layers: list[nn.Module] = []
    for width in config.channels:
        kernel = config.kernel_size
        convolution = nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2)
        layers += hidden_layer(convolution, nn.GroupNorm(1, width), config)
        channels, size = width, [_halved(length) for length in size]
    flat = channels * math.prod(size)
    return nn.Sequential(*layers, nn.Flatten(), *stack(flat, config.hidden_features, out_features, config))


def decoder(config: CNNConfig, in_features: int, shape: tuple[int, ...]) -> nn.Module:
    """The encoder in reverse: fully connected layers, then transposed convolutions up to the image's exact size."""
    out_channels, height, width = shape
    sizes = [(height, width)]
    for _ in config.channels:
        sizes.append((_halved(sizes[-1][0]), _halved(sizes[-1][1])))
    first = (config.channels[-1], *sizes[-1])
    layers = [
        *stack(in_features, config.hidden_features[::-1], math.prod(first), config),
        nn.Unflatten(1, first),
    ]
    widths = [*config.channels[::-1], out_channels]
    for index, (before, after) in enumerate(pairwise(widths)):
        large, small = sizes[-2 - index], sizes[-1 - index]
        # a size of 2 n - 1 and one of 2 n both halve to n
        odd = tuple(length - 2 * half + 1 for length, half in zip(large, small, strict=True))
        kernel = config.kernel_size
        layers += hidden_layer(nn.Identity(), nn.GroupNorm(1, before), config)
        layers.append(
            nn.ConvTranspose2d(before, after, kernel, stride=2, padding=kernel // 2, output_padding=(odd[0], odd[1]))
        )
    return nn.Sequential(*layers)


def _halved(length: int) -> int:
    return -(-length // 2)


NETWORK = Network(encoder, decoder)
