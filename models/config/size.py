"""The size of a model, from its configuration alone: closed forms for built-in parts, None for custom ones."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from models.config.architecture import BUILT_IN_EXPERTS, BUILT_IN_FUSIONS, MMVAEConfig, MMVRNNConfig
from models.config.modality import ModalityConfig
from models.config.network import CNNConfig, CustomNetworkConfig, EmbeddingConfig, MLPConfig, NetworkConfig
from models.config.training import IWAE, SubsampledELBO, TrainingConfig

FLOAT_BYTES = 4
# Weights, their gradients, and the two running averages of Adam.
COPIES = 4
STATIC_POOLS = 4


class Size(NamedTuple):
    """parameters: learned numbers. activations: numbers saved for backward per sample or time step."""

    parameters: int
    activations: int

    def __add__(self, other: "Size") -> "Size":  # type: ignore[override] # a sum of sizes, not a longer tuple
        return Size(self.parameters + other.parameters, self.activations + other.activations)


def size_of(config: MMVAEConfig | MMVRNNConfig) -> Size | None:
    """The size of the whole model."""
    networks = [modality.network or config.network for modality in config.modalities]
    if any(isinstance(network, CustomNetworkConfig) for network in networks):
        return None
    latent, modalities = config.latent_features, len(config.modalities)
    total = Size(sum(_dispersions(modality) for modality in config.modalities), 0)
    if isinstance(config, MMVAEConfig):
        if config.expert not in BUILT_IN_EXPERTS:
            return None
        total += Size(modalities * latent if config.expert == "weighted_product" else 0, 2 * latent * modalities)
        encoded, decoded = 2 * latent, latent
    else:
        if config.fusion not in BUILT_IN_FUSIONS:
            return None
        total += _sequence_parts(config)
        encoded, decoded = config.modality_features, config.code_features + config.recurrent_features
    for modality, network in zip(config.modalities, networks, strict=True):
        total += _encoder(network, modality, encoded) + _decoder(network, decoded, modality)
    return total


def memory_bytes(config: MMVAEConfig | MMVRNNConfig, training: TrainingConfig, steps: int) -> int | None:
    """An estimate of a training's memory: weights, optimiser, and activations of a batch of sequences of `steps`."""
    size = size_of(config)
    if size is None:
        return None
    copies = 1
    if isinstance(training.objective, SubsampledELBO):
        copies = 1 + len(config.modalities) + training.objective.subsets
    elif isinstance(training.objective, IWAE):
        copies = training.objective.particles
    return FLOAT_BYTES * (COPIES * size.parameters + copies * training.batch_size * steps * size.activations)


def _sequence_parts(config: MMVRNNConfig) -> Size:
    """The parts of an MM-VRNN other than encoders, decoders and likelihoods."""
    latent, hidden, recurrent = config.latent_features, config.hidden_features, config.recurrent_features
    modalities, features = len(config.modalities), config.modality_features
    static = config.static_latent_features
    smooths = config.inference == "smooth"
    smoothed = (recurrent if smooths else 0) * (2 if static else 1)
    if config.fusion == "zero":
        total = _linear(modalities * features, hidden)
    else:
        total = _linear(modalities * (features + 1), hidden) + Size(modalities * features, 0)
    total += _stack(recurrent + static, (hidden,), 2 * latent)
    if config.posterior == "product_of_experts":
        total += Size(modalities * _linear(features, 2 * latent).parameters, 2 * modalities * latent)
        total += _linear(recurrent, 2 * latent) if smooths else Size(0, 0)
    else:
        total += _linear(hidden + smoothed, hidden) + Size(recurrent * hidden, 0)
        total += _linear(hidden, 2 * latent)
    if smooths:
        directions = 2 if static else 1
        total += Size(directions * 3 * recurrent * (hidden + recurrent + 2), directions * 4 * recurrent)
    gates = 3 if config.recurrence == "gru" else 4
    width = gates * recurrent
    total += _linear(static or hidden, width) + Size(latent * width, 0)
    layers = config.recurrent_layers
    if static:
        vectors = 1 if config.recurrence == "gru" else 2
        total += _linear(smoothed, STATIC_POOLS) + Size(static * hidden, 0)
        # once per sequence; its activations are few beside those of the steps
        once = _stack((STATIC_POOLS + 1) * smoothed, (hidden,), 2 * static)
        once += _linear(static, vectors * layers * recurrent)
        total += Size(once.parameters, 0)
    between = Size((layers - 1) * _linear(recurrent, width).parameters, (layers - 1) * width)
    return total + between + Size(layers * _linear(recurrent, width).parameters, layers * width)


def _dispersions(modality: ModalityConfig) -> int:
    return modality.facts.learned * math.prod(modality.shape) if modality.scale == "learned" else 0


def _encoder(network: NetworkConfig, modality: ModalityConfig, out_features: int) -> Size:
    match network:
        case MLPConfig():
            entering = modality.categories or math.prod(modality.shape)
            return _stack(entering, network.hidden_features, out_features, network)
        case EmbeddingConfig():
            vectors = Size((modality.categories or 0) * network.features, network.features)
            return vectors + _stack(network.features, network.hidden_features, out_features, network)
        case CNNConfig():
            channels, *size = modality.shape
            total = Size(0, 0)
            for width in network.channels:
                size = [-(-length // 2) for length in size]
                total += _convolution(channels, width, network, math.prod(size)) + _norm(width, network)
                channels = width
            flat = channels * math.prod(size)
            return total + _stack(flat, network.hidden_features, out_features, network)
    raise TypeError(f"{network.name} is a custom network, its size is unknown")


def _decoder(network: NetworkConfig, in_features: int, modality: ModalityConfig) -> Size:
    parameters = modality.parameters_per_element
    values = modality.categories or parameters * math.prod(modality.shape)
    match network:
        case MLPConfig():
            return _stack(in_features, network.hidden_features[::-1], values, network)
        case EmbeddingConfig():
            vector = _stack(in_features, network.hidden_features[::-1], network.features, network)
            return vector + _linear(network.features, values)
        case CNNConfig():
            sizes = [modality.shape[1:]]
            for _ in network.channels:
                sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
            first = network.channels[-1] * math.prod(sizes[-1])
            total = _stack(in_features, network.hidden_features[::-1], first, network)
            widths = [*network.channels[::-1], parameters * modality.shape[0]]
            for index, width in enumerate(network.channels[::-1]):
                total += _norm(width, network)
                total += _convolution(width, widths[index + 1], network, math.prod(sizes[-2 - index]))
            return total
    raise TypeError(f"{network.name} is a custom network, its size is unknown")


def _stack(entering: int, hidden: Sequence[int], leaving: int, config: NetworkConfig | None = None) -> Size:
    total = Size(0, 0)
    for width in hidden:
        total += _linear(entering, width) + Size(0, width)  # the activation saves its input
        if config is not None:
            total += _norm(width, config)
        entering = width
    return total + _linear(entering, leaving)


def _linear(entering: int, leaving: int) -> Size:
    return Size((entering + 1) * leaving, leaving)


def _norm(width: int, config: NetworkConfig) -> Size:
    normalises = not isinstance(config, CustomNetworkConfig) and config.normalisation is not None
    return Size(2 * width, width) if normalises else Size(0, 0)


def _convolution(entering: int, leaving: int, config: CNNConfig, places: int) -> Size:
    # a transposed convolution has as many weights: (in, out, k, k), and a bias per output channel
    return Size((entering * config.kernel_size**2 + 1) * leaving, 2 * leaving * places)
