"""The posterior of a trained MM-VAE with nothing around it.

Of small networks by a native function, where it was built. Of others by NumPy where rows are few, as calling torch
takes longer than what it computes, and by torch where they are many, piece by piece and in place, as what is computed
would otherwise go to memory and back several times.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import EmbeddingConfig, MLPConfig, ModalityConfig
from models.experts.product import ProductOfExperts
from models.gaussian import FLOOR
from models.likelihoods.base import IDENTITY, Likelihood
from models.mmvae import MMVAE
from models.networks.mlp import OneHot
from models.ops.posterior import Posterior, posterior

# Arrays that came by message cannot be written to, and are not: the first step of a network makes a tensor of its own.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

Array = np.ndarray[Any, np.dtype[Any]]
Step = Callable[[Array], Array]


# From here on torch is faster: it computes with several elements at once where NumPy makes arrays in between.
MOST_ROWS = 256
# So many rows of a few hundred features stay in a processor's cache.
PIECE_ROWS = 1024


class NotFusable(TypeError):
    """A layer that stands here in no form but torch's."""


class FusedProduct:
    """The moments of q(z | inputs) of a product of experts (arXiv:1802.05335, eq. 4), as `MMVAE.encode` gives them.

    An absent modality is left out instead of masked, and the prior N(0, I) is the 1 that its precision is. The weights
    are the model's own, not copies. Evaluation mode only: dropout is left out. Raises NotFusable for networks with
    other layers than linear ones, embeddings, layer normalisation and simple activations.
    """

    def __init__(self, model: MMVAE, native: Posterior | None = None) -> None:
        self._native = native
        self._modalities = {modality.name: modality for modality in model.modalities}
        self._encoders = {
            name: [*_standardise(model.likelihood(name)), *_steps(model.encoders[index])]
            for name, index in model.index.items()
        }
        self._networks: dict[str, list[Callable[[Tensor], Tensor]]] = {
            name: [*_standardise_in_place(model.likelihood(name)), *_in_place(model.encoders[index])]
            for name, index in model.index.items()
        }

    def fits(self, values: Mapping[str, Array], present: Mapping[str, Array]) -> bool:
        """Whether these are values of the model's modalities; what is wrong else is for others to say."""
        if not values or values.keys() != present.keys() or not values.keys() <= self._modalities.keys():
            return False
        rows = len(next(iter(present.values())))
        return rows > 0 and all(
            _fits(self._modalities[name], value, present[name], rows) for name, value in values.items()
        )

    def __call__(self, values: Mapping[str, Array], present: Mapping[str, Array]) -> tuple[Array, Array]:
        """Mean and standard deviation, (B, Z) each, of values that fit."""
        if self._native is not None:
            return self._native(values, present)
        names = [name for name in self._encoders if name in values]
        rows = len(present[names[0]])
        if rows > MOST_ROWS:
            pieces = [slice(start, start + PIECE_ROWS) for start in range(0, rows, PIECE_ROWS)]
            moments = [
                self._piece({name: (values[name][piece], present[name][piece]) for name in names}) for piece in pieces
            ]
            mean, deviation = (torch.cat(part).numpy() for part in zip(*moments, strict=True))
            return mean, deviation
        # exp(-x) of a large negative x is infinite, and what it divides 0; what is no number was none before
        with np.errstate(over="ignore", invalid="ignore"):
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
        value = self._clean(name, value, present)
        for step in self._encoders[name]:
            value = step(value)
        return value

    @torch.inference_mode()
    def _piece(self, given: Mapping[str, tuple[Array, Array]]) -> tuple[Tensor, Tensor]:
        """The same by torch, of values and presence by name."""
        weighted: Tensor | float = 0.0
        total: Tensor | float = 1.0
        for name, (value, present) in given.items():
            raw = torch.from_numpy(self._clean(name, value, present))
            for step in self._networks[name]:
                raw = step(raw)
            mean, unbounded = raw.chunk(2, dim=-1)
            precision = functional.softplus(unbounded.contiguous()).add_(FLOOR).square_().reciprocal_()
            if np.count_nonzero(present) < present.size:
                precision[torch.from_numpy(~present)] = 0
            total = precision + total
            weighted = precision.mul_(mean) + weighted
        assert isinstance(total, Tensor)  # noqa: S101 something is given
        return weighted / total, total.rsqrt_()

    def _clean(self, name: str, value: Array, present: Array) -> Array:
        """The value in its modality's type, zeros where it is absent: whatever stands there, it must not spread."""
        value = value.astype(np.float32 if self._modalities[name].categories is None else np.int64, copy=False)
        if np.count_nonzero(present) < present.size:
            value = np.where(present.reshape(-1, *[1] * (value.ndim - 1)), value, value.dtype.type(0))
        return value


def fuse(model: nn.Module) -> FusedProduct | None:
    """The fused posterior of a model that has one: an MM-VAE of our own networks, whose expert is the plain product."""
    if not isinstance(model, MMVAE) or type(model.expert) is not ProductOfExperts or model.parts.encoders:
        return None
    networks = [modality.network or model.config.network for modality in model.modalities]
    if not all(isinstance(network, MLPConfig | EmbeddingConfig) for network in networks):
        return None
    try:
        return FusedProduct(model, posterior(model))
    except NotFusable:
        return None


def _fits(modality: ModalityConfig, value: Array, present: Array, rows: int) -> bool:
    if value.shape != (rows, *modality.shape) or present.shape != (rows,) or present.dtype.kind != "b":
        return False
    if modality.categories is None:
        return value.dtype.kind in "iuf"
    return value.dtype.kind in "iu" and value.min() >= 0 and value.max() < modality.categories


def _standardise(likelihood: Likelihood) -> list[Step]:
    transform = likelihood.input_transform()
    if transform is None:
        raise NotFusable
    if transform is IDENTITY:
        return []
    offset, scale = transform.offset.numpy(), transform.scale.numpy()
    shift: list[Step] = [lambda value: (value - offset) / scale]
    return [np.log1p, *shift] if transform.log1p else shift


def _standardise_in_place(likelihood: Likelihood) -> list[Callable[[Tensor], Tensor]]:
    """The same by torch; the value itself stays as it is."""
    transform = likelihood.input_transform()
    if transform is None:
        raise NotFusable
    if transform is IDENTITY:
        return []
    offset, scale = transform.offset, transform.scale
    if transform.log1p:
        return [lambda value: value.log1p().sub_(offset).div_(scale)]
    return [lambda value: (value - offset).div_(scale)]


def _layers(network: nn.Module) -> list[nn.Module]:
    """The layers of one of our networks, in their order, without what does nothing in evaluation."""
    return [layer for layer in network.modules() if not isinstance(layer, nn.Sequential | nn.Dropout)]


def _steps(network: nn.Module) -> list[Step]:
    """The functions that a network is. Raises NotFusable."""
    steps: list[Step] = []
    before: nn.Module | None = None
    for layer in _layers(network):
        match layer:
            case nn.Linear() if isinstance(before, OneHot):
                steps.append(_looked_up(layer))
            case nn.Linear():
                steps.append(_linear(layer))
            case nn.LayerNorm():
                steps.append(_layer_norm(layer))
            case nn.Embedding():
                steps.append(layer.weight.detach().numpy().__getitem__)
            case OneHot():  # in the layer behind it
                pass
            case nn.Flatten():
                steps.append(_flat)
            case nn.Unflatten():
                steps.append(_column)
            case _ if type(layer) in ACTIVATIONS:
                steps.append(ACTIVATIONS[type(layer)])
            case _:
                raise NotFusable
        before = layer
    return steps


def _in_place(network: nn.Module) -> list[Callable[[Tensor], Tensor]]:
    """The same by torch, in place where it can be."""
    steps: list[Callable[[Tensor], Tensor]] = []
    before: nn.Module | None = None
    for layer in _layers(network):
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.detach().t(), layer.bias.detach()
            product = functional.embedding if isinstance(before, OneHot) else torch.mm
            steps.append(functools.partial(_shifted, product, weight, bias))
        elif not isinstance(layer, OneHot):
            steps.append(IN_PLACE.get(type(layer), layer))
        before = layer
    return steps


def _shifted(product: Callable[[Tensor, Tensor], Tensor], weight: Tensor, bias: Tensor, value: Tensor) -> Tensor:
    return product(value, weight).add_(bias)


def _flat(value: Array) -> Array:
    return value.reshape(len(value), -1)


def _column(value: Array) -> Array:
    return value.reshape(-1, 1)


def _looked_up(layer: nn.Linear) -> Step:
    """A linear layer of one-hot categories: a row of the matrix, and no vector of zeros."""
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()

    def apply(value: Array) -> Array:
        answer: Array = weight[value]
        answer += bias
        return answer

    return apply


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

IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.SiLU: functools.partial(functional.silu, inplace=True),
    nn.ReLU: torch.relu_,
    nn.ELU: functools.partial(functional.elu, inplace=True),
    nn.Tanh: torch.tanh_,
}
