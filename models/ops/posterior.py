"""The posterior of a trained MM-VAE as one native function: of small networks other libraries only start operations.

For a product of experts whose encoders are fully connected; in float32 on the CPU. Everything else is for NumPy and
PyTorch.
"""

import ctypes
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from models import ops
from models.likelihoods.base import Likelihood
from models.mmvae import MMVAE
from models.networks.mlp import OneHot
from models.ops import library

Array = np.ndarray[Any, np.dtype[Any]]

VALUES, COUNTS, CATEGORIES, VECTORS = range(4)
ACTIVATIONS: dict[type[nn.Module], int] = {nn.SiLU: 0, nn.ReLU: 1, nn.Tanh: 2}
LEFT_OUT = (nn.Sequential, nn.Dropout, nn.Flatten, nn.Unflatten)
# Wider layers are products that other libraries compute as fast.
WIDEST = 256


class Posterior:
    """Mean and standard deviation of q(z | inputs), (B, Z) each; a row's answer does not depend on the other rows."""

    def __init__(self, latent_features: int, encoders: Mapping[str, "_Encoder"]) -> None:
        self._latent_features = latent_features
        self._encoders = encoders
        numbers = [latent_features, len(encoders)]
        for encoder in encoders.values():
            numbers += encoder.numbers
        self._plan = (ctypes.c_int64 * len(numbers))(*numbers)
        self._weights = [weight for encoder in encoders.values() for weight in encoder.weights]
        size = ctypes.c_int64()
        library.current().sensorium_posterior_size(self._plan, ctypes.byref(size))
        self._size = size.value
        self._packed = self._pack()

    def __call__(self, values: Mapping[str, Array], present: Mapping[str, Array]) -> tuple[Array, Array]:
        """Of values that fit the model."""
        given: list[int | None] = []
        kept: list[Array] = []  # until they have been read
        for name, encoder in self._encoders.items():
            if name in values:
                value = np.ascontiguousarray(values[name], encoder.dtype)
                mask = np.ascontiguousarray(present[name])
                kept += [value, mask]
                given += [_address(value), _address(mask)]
            else:
                given += [None, None]
            given += encoder.constants
        rows = len(mask)
        mean = np.empty((rows, self._latent_features), np.float32)
        deviation = np.empty_like(mean)
        versions, packed = self._packed
        if versions != [weight._version for weight in self._weights]:
            self._packed = versions, packed = self._pack()
        library.current().sensorium_posterior(
            ctypes.c_int64(rows),
            self._plan,
            ctypes.c_void_p(_address(packed)),
            (ctypes.c_void_p * len(given))(*given),
            (ctypes.c_void_p * 2)(_address(mean), _address(deviation)),
        )
        return mean, deviation

    def _pack(self) -> tuple[list[int], Array]:
        """The versions of the weights, and the weights in the order that products read them."""
        versions = [weight._version for weight in self._weights]
        packed = np.zeros(self._size, np.float32)
        pointers = (ctypes.c_void_p * len(self._weights))(*[weight.data_ptr() for weight in self._weights])
        library.current().sensorium_posterior_pack(self._plan, pointers, ctypes.c_void_p(_address(packed)))
        return versions, packed


def posterior(model: MMVAE) -> Posterior | None:
    """The posterior of a model of our own networks, or None where it is not for this library."""
    if ops.reference_selected() or not library.available():
        return None
    encoders: dict[str, _Encoder] = {}
    for name, index in model.index.items():
        encoder = _encoder(model.likelihood(name), model.encoders[index])
        if encoder is None:
            return None
        encoders[name] = encoder
    return Posterior(model.latent_features, encoders)


class _Encoder(NamedTuple):
    """An encoder as the library reads it. constants: addresses of offset, scale and table, of tensors in `alive`."""

    numbers: list[int]
    weights: list[Tensor]
    dtype: type[np.generic]
    constants: list[int | None]
    alive: list[Tensor]


def _encoder(likelihood: Likelihood, network: nn.Module) -> _Encoder | None:
    """The plain sequence of linear maps with one kind of activation between them that most networks are, or None."""
    transform = likelihood.input_transform()
    if transform is None:
        return None
    layers = [layer for layer in network.modules() if not isinstance(layer, LEFT_OUT)]
    modality = likelihood.modality
    constants: list[Tensor | None] = [None, None, None]
    features = math.prod(modality.shape) if modality.categories is None else modality.categories
    if modality.categories is not None:
        match layers.pop(0), layers[0]:
            case nn.Embedding() as vectors, _:
                kind, constants[2] = VECTORS, vectors.weight.detach()
            case OneHot(), nn.Linear() as first:
                kind, constants[2] = CATEGORIES, first.weight.detach()
            case _:
                return None
    else:
        kind = COUNTS if transform.log1p else VALUES
        constants[:2] = transform.offset, transform.scale
    linear, between = layers[::2], layers[1::2]
    activation = ACTIVATIONS.get(type(between[0]) if between else nn.SiLU)
    if activation is None or len(linear) != len(between) + 1 or len(set(map(type, between))) > 1:
        return None
    weights: list[Tensor] = []
    widths: list[int] = []
    for layer in linear:
        if type(layer) is not nn.Linear:
            return None
        weights += [layer.weight.detach(), layer.bias.detach()]
        widths += [layer.out_features] if widths else [layer.in_features, layer.out_features]
    if max(widths[kind == CATEGORIES :]) > WIDEST or not all(map(_ours, [*weights, *constants])):
        return None
    scale = constants[1]
    scales = 1 if scale is None else scale.numel()
    return _Encoder(
        [kind, features, scales, activation, len(linear), *widths],
        weights,
        np.int64 if kind in (CATEGORIES, VECTORS) else np.float32,
        [None if tensor is None else tensor.data_ptr() for tensor in constants],
        [tensor for tensor in constants if tensor is not None],
    )


def _ours(tensor: Tensor | None) -> bool:
    # tensors of inference mode do not tell when they change
    return tensor is None or (tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_inference())


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
