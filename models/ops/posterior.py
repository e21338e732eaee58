"""The joint posterior of a trained MM-VAE: the reference is `MMVAE.encode`, and this is the CPU kernel.

For small networks PyTorch takes longer to start an operation than to compute it. The kernel serves products of experts
with fully connected encoders, in float32 on the CPU. It takes NumPy arrays, and is called below PyTorch's dispatch.
"""

import ctypes
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from models.config import ModalityConfig
from models.experts.product import ProductOfExperts
from models.likelihoods import Likelihood
from models.mmvae import MMVAE
from models.networks.mlp import OneHot
from models.ops import dense, library
from models.ops.dense import Unsupported

Array = np.ndarray[Any, np.dtype[Any]]

# Kind in posterior.cpp: numbers, categories as one-hot vectors, categories with an embedding.
VALUES, CATEGORIES, VECTORS = range(3)


def supports(model: nn.Module) -> str | None:
    """Why the kernel cannot encode with this model, or None where it can."""
    try:
        _read(model)
    except Unsupported as reason:
        return str(reason)
    return None


def kernel(model: nn.Module) -> "Kernel | str":
    """The kernel for a model in evaluation mode, or the reason why no kernel serves it."""
    try:
        return Kernel(model)
    except Unsupported as reason:
        return str(reason)


class _Encoder(NamedTuple):
    """A modality as the kernel reads it. constants: offset, scale and table."""

    modality: ModalityConfig
    numbers: list[int]
    weights: list[Tensor | None]
    constants: list[Tensor | None]


class Kernel:
    """Mean and standard deviation of q(z | inputs), (B, Z) each; a row's answer does not depend on the other rows.

    Weights that change later are packed again. Raises Unsupported.
    """

    def __init__(self, model: nn.Module) -> None:
        self._encoders, self._latent_features = _read(model)
        numbers = [self._latent_features, len(self._encoders)]
        for encoder in self._encoders.values():
            numbers += encoder.numbers
        self._plan = (ctypes.c_int64 * len(numbers))(*numbers)
        self._weights = [weight for encoder in self._encoders.values() for weight in encoder.weights]
        self._constants = {
            name: [None if tensor is None else tensor.data_ptr() for tensor in encoder.constants]
            for name, encoder in self._encoders.items()
        }
        size = ctypes.c_int64()
        library.current().sensorium_posterior_size(self._plan, ctypes.byref(size))
        self._size = size.value
        self._packed = self._pack()

    def declines(self, values: Mapping[str, Array], present: Mapping[str, Array]) -> str | None:
        """Why the kernel cannot encode these values, or None where it can."""
        unfit = "the values do not fit the model"
        if not values or values.keys() != present.keys() or not values.keys() <= self._encoders.keys():
            return unfit
        rows = len(next(iter(present.values())))
        for name, value in values.items():
            if present[name].ndim > 1:
                return f"{name!r} has a mask per element"
            if not rows or not _fits(self._encoders[name].modality, value, present[name], rows):
                return unfit
        return None

    def __call__(self, values: Mapping[str, Array], present: Mapping[str, Array]) -> tuple[Array, Array]:
        """The moments for values that the kernel does not decline."""
        addresses: list[int | None] = []
        alive: list[Array] = []
        for name, encoder in self._encoders.items():
            if name in values:
                dtype = np.float32 if encoder.modality.categories is None else np.int64
                value, mask = np.ascontiguousarray(values[name], dtype), np.ascontiguousarray(present[name])
                alive += [value, mask]
                addresses += [_address(value), _address(mask)]
            else:
                addresses += [None, None]
            addresses += self._constants[name]
        rows = len(mask)
        mean = np.empty((rows, self._latent_features), np.float32)
        deviation = np.empty_like(mean)
        versions, packed = self._packed
        if versions != self._versions():
            self._packed = _, packed = self._pack()
        library.current().sensorium_posterior(
            ctypes.c_int64(rows),
            self._plan,
            ctypes.c_void_p(_address(packed)),
            (ctypes.c_void_p * len(addresses))(*addresses),
            (ctypes.c_void_p * 2)(_address(mean), _address(deviation)),
        )
        return mean, deviation

    def _versions(self) -> list[int]:
        """PyTorch's count of in-place changes of each weight (docs/decisions/0058)."""
        return [0 if weight is None else weight._version for weight in self._weights]

    def _pack(self) -> tuple[list[int], Array]:
        """The versions of the weights, and the weights in the order in which products read them."""
        versions, packed = self._versions(), np.zeros(self._size, np.float32)
        pointers = [None if weight is None else weight.data_ptr() for weight in self._weights]
        library.current().sensorium_posterior_pack(
            self._plan, (ctypes.c_void_p * len(pointers))(*pointers), ctypes.c_void_p(_address(packed))
        )
        return versions, packed


def _read(model: nn.Module) -> tuple[dict[str, _Encoder], int]:
    """What the kernel computes of the model. Raises Unsupported."""
    if not library.available():
        raise Unsupported(library.NOT_BUILT)
    if type(model) is not MMVAE:
        raise Unsupported(f"it computes MM-VAEs, this is {type(model).__name__}")
    if type(model.expert) is not ProductOfExperts:
        raise Unsupported(f"it computes products of experts, this is {type(model.expert).__name__}")
    encoders = {}
    for name, index in model.index.items():
        try:
            encoders[name] = _encoder(model.likelihood(name), model.encoders[index], 2 * model.latent_features)
        except Unsupported as reason:
            raise Unsupported(f"the encoder of {name!r}: {reason}") from reason
    return encoders, model.latent_features


def _encoder(likelihood: Likelihood, network: nn.Module, out_features: int) -> _Encoder:
    """Raises Unsupported."""
    visited: list[nn.Module] = []
    layers = list(dense.leaves(network, visited))
    dense.Snapshot(visited)  # none has a hook
    modality, kind, table = likelihood.modality, VALUES, None
    features = in_features = math.prod(modality.shape)
    if modality.categories is not None:
        features = in_features = modality.categories
        first = layers.pop(0) if layers else None
        if isinstance(first, nn.Embedding) and first.max_norm is None and first.num_embeddings == features:
            kind, table, in_features = VECTORS, first.weight, first.embedding_dim
        elif isinstance(first, OneHot):
            kind = CATEGORIES
        else:
            raise Unsupported(f"categories go through {type(first).__name__}")
    found = dense.read(layers)
    if kind == CATEGORIES:
        table = found.linears[0].weight
    if (found.widths[0], found.widths[-1]) != (in_features, out_features):
        raise Unsupported(f"it does not map {in_features} to {out_features} features")
    constants: list[Tensor | None] = [None, None, table]
    scales, log1p = 1, False
    if modality.categories is None:
        transform = likelihood.input_transform()
        if transform is None or type(likelihood).standardise is not Likelihood.standardise:
            raise Unsupported(f"{type(likelihood).__name__} transforms inputs in a way of its own")
        constants[:2], log1p, scales = [transform.offset, transform.scale], transform.log1p, transform.scale.numel()
        if transform.offset.numel() != scales or scales not in (1, features):
            raise Unsupported("its offset and scale are neither one number nor one per feature")
    weights: list[Tensor | None] = []
    for index, linear in enumerate(found.linears):
        norm = found.norms[index] if index < len(found.norms) else None
        weights += [linear.weight, linear.bias, *([None, None] if norm is None else [norm.weight, norm.bias])]
    if not all(tensor is None or dense.readable(tensor) for tensor in [*weights, *constants]):
        raise Unsupported(dense.FLOAT32)
    numbers = [kind, features, scales, log1p, bool(found.norms), found.activation, len(found.linears), *found.widths]
    return _Encoder(modality, list(map(int, numbers)), weights, constants)


def _fits(modality: ModalityConfig, value: Array, present: Array, rows: int) -> bool:
    if value.shape != (rows, *modality.shape) or present.shape != (rows,) or present.dtype.kind != "b":
        return False
    if modality.categories is None:
        return value.dtype.kind in "iuf"
    return bool(value.dtype.kind in "iu" and value.min() >= 0 and value.max() < modality.categories)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
