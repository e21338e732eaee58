"""The two functions that build a kind of network."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from models.config import ModalityConfig


class Network(NamedTuple):
    """encoder(config, modality, out_features) and decoder(config, in_features, shape) build the halves.

    config is the modality's `NetworkConfig` of this name.
    """

    encoder: Callable[[Any, ModalityConfig, int], nn.Module]
    decoder: Callable[[Any, int, tuple[int, ...]], nn.Module]
