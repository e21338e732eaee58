"""The posterior of a trained MM-VAE in NumPy: of few rows, calling torch takes longer than what it computes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from models.config import ModalityConfig
from models.experts import ProductOfExperts
from models.gaussian import FLOOR
from models.likelihood.base import Likelihood
from models.likelihood.continuous import Continuous
from models.likelihood.counts import Count
from models.mmvae import MMVAE
from models.networks.mlp import OneHot

Array = np.ndarray[Any, np.dtype[Any]]
Step = Callable[[Array], Array]


# From here on torch is faster: it computes with several elements at once where NumPy makes arrays in between.
MOST_ROWS = 256


class NotFusable(TypeError):
    """A layer that stands here in no form but torch's."""


class FusedProduct:
    """The moments of q(z | inputs) of a product of experts (arXiv:1802.05335, eq. 4), as `MMVAE.encode` gives them.

    An absent modality is left out instead of masked, and the prior N(0, I) is the 1 that its precision is. The weights
    are the model's own, not copies. Evaluation mode only: dropout is left out. Raises NotFusable for networks with
    other layers than linear ones, embeddings, layer normalisation and simple activations.
    """

    def __init__(self, model: MMVAE) -> None:
        self._modalities = {modality.name: modality for modality in model.modalities}
        self._encoders = {
            name: [*_standardise(model.likelihood(name)), *_steps(model.encoders[index])]
            for name, index in model.index.items()
        }

    def fits(self, values: Mapping[str, Array], present: Mapping[str, Array]) -> bool:
        """Whether these are few values, and of the model's modalities; what is wrong else is for others to say."""
        if not values or values.keys() != present.keys() or not values.keys() <= self._modalities.keys():
            return False
        rows = len(next(iter(present.values())))
        return 0 < rows <= MOST_ROWS and all(
            _fits(self._modalities[name], value, present[name], rows) for name, value in values.items()
        )

    def __call__(self, values: Mapping[str, Array], present: Mapping[str, Array]) -> tuple[Array, Array]:
        """Mean and standard deviation, (B, Z) each, of values that fit."""
        names = [name for name in self._encoders if name in values]
        with np.errstate(over="ignore"):  # exp(-x) of a large negative x is infinite, and what it divides 0
            raw = np.stack([self._encoded(name, values[name], present[name]) for name in names])
        half = raw.shape[-1] // 2
        mean, unbounded = raw[..., :half], raw[..., half:]
        deviation = np.maximum(unbounded, 0) + np.log1p(np.exp(-np.abs(unbounded))) + np.float32(FLOOR)
        precision = 1 / np.square(deviation)
        for index, name in enumerate(names):
            if np.count_nonzero(present[name]) < len(present[name]):
                precision[index, ~present[name]] = 0
        total = 1 + np.add.reduce(precision, axis=0)
        return np.add.reduce(mean * precision, axis=0) / total, 1 / np.sqrt(total)

    def _encoded(self, name: str, value: Array, present: Array) -> Array:
        modality = self._modalities[name]
        value = value.astype(np.float32 if modality.categories is None else np.int64, copy=False)
        if np.count_nonzero(present) < present.size:  # whatever stands there, it must not spread
            value = np.where(present.reshape(-1, *[1] * (value.ndim - 1)), value, value.dtype.type(0))
        for step in self._encoders[name]:
            value = step(value)
        return value


def fuse(model: nn.Module) -> FusedProduct | None:
    """The fused posterior of a model that has one: of an MM-VAE whose expert is the plain product."""
    if not isinstance(model, MMVAE) or type(model.expert) is not ProductOfExperts:
        return None
    try:
        return FusedProduct(model)
    except NotFusable:
        return None


def _fits(modality: ModalityConfig, value: Array, present: Array, rows: int) -> bool:
    if value.shape != (rows, *modality.shape) or present.shape != (rows,) or present.dtype.kind != "b":
        return False
    if modality.categories is None:
        return value.dtype.kind in "iuf"
    return value.dtype.kind in "iu" and value.min() >= 0 and value.max() < modality.categories


def _standardise(likelihood: Likelihood) -> list[Step]:
    if type(likelihood).standardise is Likelihood.standardise:
        return []
    if not isinstance(likelihood, Continuous | Count):
        raise NotFusable
    offset, scale = likelihood.offset.numpy(), likelihood.scale.numpy()
    shift: list[Step] = [lambda value: (value - offset) / scale]
    return [np.log1p, *shift] if isinstance(likelihood, Count) else shift


def _steps(module: nn.Module) -> list[Step]:
    """The functions that a network is. Raises NotFusable."""
    match module:
        case nn.Sequential():
            return [step for layer in module for step in _steps(layer)]
        case nn.Linear():
            return [_linear(module)]
        case nn.LayerNorm():
            return [_layer_norm(module)]
        case nn.Embedding():
            vectors = module.weight.detach().numpy()
            return [lambda value: vectors[value]]
        case OneHot():
            unit = np.eye(module.categories, dtype=np.float32)
            return [lambda value: unit[value]]
        case nn.Flatten(start_dim=1):
            return [lambda value: value.reshape(len(value), -1)]
        case nn.Unflatten(dim=0):
            return [lambda value: value.reshape(-1, 1)]
        case nn.Dropout() | nn.Identity():
            return []
    if type(module) in ACTIVATIONS:
        return [ACTIVATIONS[type(module)]]
    raise NotFusable


def _linear(layer: nn.Linear) -> Step:
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()

    def apply(value: Array) -> Array:
        answer: Array = value @ weight
        answer += bias
        return answer

    return apply


def _layer_norm(layer: nn.LayerNorm) -> Step:
    weight, bias, least = layer.weight.detach().numpy(), layer.bias.detach().numpy(), layer.eps

    def apply(value: Array) -> Array:
        centred = value - value.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        answer: Array = centred / np.sqrt(variance + np.float32(least)) * weight + bias
        return answer

    return apply


def _silu(value: Array) -> Array:
    divisor = np.negative(value)
    np.exp(divisor, out=divisor)
    divisor += 1
    return np.divide(value, divisor, out=divisor)


def _relu(value: Array) -> Array:
    return np.maximum(value, 0)


def _elu(value: Array) -> Array:
    return np.where(value > 0, value, np.expm1(np.minimum(value, 0)))


ACTIVATIONS: dict[type[nn.Module], Step] = {nn.SiLU: _silu, nn.ReLU: _relu, nn.ELU: _elu, nn.Tanh: np.tanh}
"""Those that NumPy has; of each with torch's default parameters, as our networks have them."""
