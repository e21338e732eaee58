"""Encoders and decoders of one modality, by name: built-in, or added by a package.

An encoder maps standardised values (N, *shape), or categories (N,), to features (N, out_features). A decoder maps
codes (N, in_features) to likelihood parameters (N, *shape).

A package adds networks by an entry point in the group sensorium.networks that names a `Network`:

    def encoder(config, modality, out_features): ...    # config.options holds the user's options
    def decoder(config, in_features, shape): ...
    perceiver = Network(encoder, decoder)
"""

from importlib.metadata import entry_points

from torch import nn

from models.config import ModalityConfig, NetworkConfig
from models.config.network import NETWORKS_GROUP
from models.networks import cnn, embedding, mlp
from models.networks.network import Network as Network

NETWORKS: dict[str, Network] = {"mlp": mlp.NETWORK, "cnn": cnn.NETWORK, "embedding": embedding.NETWORK}


def encoder(config: NetworkConfig, modality: ModalityConfig, out_features: int) -> nn.Module:
    """The encoder that `config.name` names, for values of this modality."""
    return find(config.name).encoder(config, modality, out_features)


def decoder(config: NetworkConfig, in_features: int, shape: tuple[int, ...]) -> nn.Module:
    """The decoder that `config.name` names, giving parameters of this shape."""
    return find(config.name).decoder(config, in_features, shape)


def find(name: str) -> Network:
    """The network of this name: built-in, or named by an entry point."""
    if name in NETWORKS:
        return NETWORKS[name]
    (found,) = entry_points(group=NETWORKS_GROUP, name=name)
    network: Network = found.load()
    return network
