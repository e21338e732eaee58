"""The terms of an MM-VAE's evidence bound as one native function: of small networks PyTorch only starts operations.

For a product of experts whose encoders and decoders are fully connected and whose modalities are Gaussian; in float32
on the CPU. Everything else is for PyTorch.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models import ops
from models.batch import Batch
from models.experts.product import ProductOfExperts
from models.likelihoods.gaussian import GaussianLikelihood
from models.multimodal import Descent, Multimodal, Terms
from models.ops import library

ACTIVATIONS: dict[type[nn.Module], int] = {nn.SiLU: 0, nn.ReLU: 1, nn.Tanh: 2}
RESHAPES = (nn.Flatten, nn.Unflatten)
# Columns of what is kept are padded to a multiple of these.
COLUMNS = 16
# Tensors of a modality in a call.
PART = 7
# Wider layers are products that PyTorch computes as fast; so are those of more rows, where it has several threads.
WIDEST, MOST_ROWS = 64, 1024


class _Plan(NamedTuple):
    """A model as the library reads it, and the rows of what it keeps for the way back."""

    numbers: ctypes.Array[ctypes.c_int64]
    rows: int


class _Call(NamedTuple):
    """What a call computes from, weights and noise aside.

    tensors: of every modality values, presence, targets, their presence, offset, scale and moment; None where there are
    no values or no targets. learned: which modalities have errors to adapt to.
    """

    plan: _Plan
    rows: int
    latent: int
    tensors: list[Tensor | None]
    learned: list[bool]

    def wanted(self) -> list[int]:
        """Which modalities have targets."""
        return [index for index in range(len(self.learned)) if self.tensors[PART * index + 2] is not None]

    def room(self) -> Tensor:
        """For what the way forward keeps for the way back."""
        return torch.empty(self.plan.rows * (-(-self.rows // COLUMNS) * COLUMNS))

    def given(self, noise: Tensor | None, weights: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
        """Everything in the library's order."""
        return _pointers([noise, *self.tensors, *weights])


def terms(model: Multimodal, expert: nn.Module, inputs: Batch, targets: Batch, noise: Tensor | None) -> Terms | None:
    """`MMVAE.terms`, or None where it is not for this library. Gradients reach the weights, once."""
    found = _call(model, expert, inputs, targets, noise)
    reason = None if found else "it computes float32 on the CPU, products of experts, and narrow plain networks"
    if not ops.serves("the evidence bound", reason) or found is None:
        return None
    call, weights = found
    if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
        return _named(model, call, _Terms.apply(call, noise, *weights))  # type: ignore[no-untyped-call] # it has no types
    return _named(model, call, _forward(call, noise, weights, None))


def descend(
    model: Multimodal, expert: nn.Module, inputs: Batch, targets: Batch, noise: Tensor | None, descent: Descent
) -> Terms | None:
    """`MMVAE.descend`, or None where it is not for this library."""
    found = _call(model, expert, inputs, targets, noise)
    reason = None if found else "it computes float32 on the CPU, products of experts, and narrow plain networks"
    if not ops.serves("the evidence bound", reason) or found is None:
        return None
    call, weights = found
    kept = call.room()
    kl, *others = _forward(call, noise, weights, kept)
    of_kl = torch.full_like(kl, descent.of_kl)
    if descent.free_bits:
        of_kl.masked_fill_(kl < descent.free_bits, 0.0)
    wanted = call.wanted()
    slopes: list[Tensor | None] = [None] * len(call.learned)
    for index in wanted:
        slopes[index] = kl.new_full((call.rows,), descent.of_log_likelihood[model.modalities[index].name])
    gradients = [weight.grad if weight.requires_grad else None for weight in weights]
    _backward(call, weights, kept, [of_kl, *slopes], gradients)
    return _named(model, call, [kl, *others])


def _call(
    model: Multimodal, expert: nn.Module, inputs: Batch, targets: Batch, noise: Tensor | None
) -> tuple[_Call, list[Tensor]] | None:
    """What to call the library with, and all weights; or None where it is not for it."""
    if not library.available() or type(expert) is not ProductOfExperts or torch.is_autocast_enabled("cpu"):
        return None
    rows, latent = inputs.rows, model.latent_features
    if rows > MOST_ROWS and torch.get_num_threads() > 1:
        return None
    numbers = [latent, len(model.modalities)]
    weights: list[Tensor] = []
    tensors: list[Tensor | None] = []
    learned = []
    for modality, own, encode, decode in zip(
        model.modalities, model.likelihoods, model.encoders, model.decoders, strict=True
    ):
        if type(own) is not GaussianLikelihood:
            return None
        features = math.prod(modality.shape)
        encoder = _network(encode, features, 2 * latent)
        decoder = _network(decode, latent, features * own.parameters_per_element)
        if encoder is None or decoder is None:
            return None
        numbers += [features, own.scale.numel(), modality.scale == "predicted", *encoder.numbers, *decoder.numbers]
        weights += [*encoder.weights, *decoder.weights]
        for batch in (inputs, targets):
            value, present = batch.values.get(modality.name), batch.present.get(modality.name)
            if value is not None and not (_fits(value, rows * features) and _fits(present, rows, torch.bool)):
                return None
            tensors += [value, None if value is None else present]
        tensors += [own.offset, own.scale, own.moment]
        learned.append(model.training and modality.scale == "learned")
    if not rows or not (noise is None or _fits(noise, rows * latent)) or not all(map(_ours, weights)):
        return None
    plan = _plan(tuple(numbers))
    return _Call(plan, rows, latent, [_contiguous(tensor) for tensor in tensors], learned), weights


def _named(model: Multimodal, call: _Call, tensors: Sequence[Tensor]) -> Terms:
    kl, *found = tensors
    wanted = call.wanted()
    names = [model.modalities[index].name for index in wanted]
    errors: dict[str, Tensor] = {}
    if model.training:
        none, given = kl.new_zeros(0), iter(found[len(names) :])
        errors = {name: next(given) if call.learned[index] else none for index, name in zip(wanted, names, strict=True)}
    return Terms(dict(zip(names, found, strict=False)), kl, None, errors)


class _Network(NamedTuple):
    """A fully connected network: the library's numbers, weights and biases."""

    numbers: list[int]
    weights: list[Tensor]


def _network(module: nn.Module, features: int, out_features: int) -> _Network | None:
    """The layers of a plain sequence of linear maps with one kind of activation between them, or None."""
    if type(module) is not nn.Sequential or _hooked(module):
        return None
    layers = [layer for layer in module._modules.values() if type(layer) not in RESHAPES]
    linear, between = layers[::2], layers[1::2]
    kinds = {type(layer) for layer in between} or {nn.SiLU}
    activation = ACTIVATIONS.get(kinds.pop())
    if activation is None or kinds or len(linear) != len(between) + 1 or any(map(_hooked, layers)):
        return None
    weights: list[Tensor] = []
    widths = [features]
    for layer in linear:
        if type(layer) is not nn.Linear or layer.bias is None or layer.in_features != widths[-1]:
            return None
        weights += [layer.weight, layer.bias]
        widths.append(layer.out_features)
    if widths[-1] != out_features or max(widths) > WIDEST:
        return None
    return _Network([activation, len(linear), *widths], weights)


def _hooked(module: nn.Module | None) -> bool:
    """Whether somebody listens to what the module computes."""
    return module is None or bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _ours(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()


def _fits(tensor: Tensor | None, size: int, dtype: torch.dtype = torch.float32) -> bool:
    """Whether these are so many constant numbers of this type, here."""
    return (
        tensor is not None
        and tensor.dtype == dtype
        and tensor.numel() == size
        and tensor.device.type == "cpu"
        and not tensor.requires_grad
    )


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


@lru_cache(maxsize=64)
def _plan(numbers: tuple[int, ...]) -> _Plan:
    array = (ctypes.c_int64 * len(numbers))(*map(int, numbers))
    rows = ctypes.c_int64()
    library.current().sensorium_bound_rows(array, ctypes.byref(rows))
    return _Plan(array, rows.value)


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[None if tensor is None else tensor.data_ptr() for tensor in tensors])


def _forward(call: _Call, noise: Tensor | None, weights: Sequence[Tensor], kept: Tensor | None) -> list[Tensor]:
    """KL (B, Z), of every modality with targets its log-likelihood (B,), then of those that learn their errors."""
    noise = _contiguous(noise)
    kl = torch.empty(call.rows, call.latent)
    densities: list[Tensor] = []
    errors: list[Tensor] = []
    of_modalities: list[Tensor | None] = [None] * (2 * len(call.learned))
    for index in call.wanted():
        densities.append(torch.empty(call.rows))
        of_modalities[2 * index] = densities[-1]
        if call.learned[index]:
            errors.append(torch.empty(1 + cast(Tensor, call.tensors[PART * index + 5]).numel()))
            of_modalities[2 * index + 1] = errors[-1]
    out = _pointers([kl, kept, *of_modalities])
    library.current().sensorium_bound_forward(
        ctypes.c_int64(call.rows), call.plan.numbers, call.given(noise, weights), out
    )
    return [kl, *densities, *errors]


def _backward(
    call: _Call,
    weights: Sequence[Tensor],
    kept: Tensor,
    slopes: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
) -> None:
    """From the slopes of KL and every modality's log-likelihood, None for zeros, to the gradients of the weights."""
    library.current().sensorium_bound_backward(
        ctypes.c_int64(call.rows),
        call.plan.numbers,
        call.given(None, weights),
        ctypes.c_void_p(kept.data_ptr()),
        _pointers(slopes),
        _pointers(gradients),
    )


class _Terms(torch.autograd.Function):
    """The terms as one step of automatic differentiation."""

    @staticmethod
    def forward(ctx: Any, call: _Call, noise: Tensor | None, *weights: Tensor) -> tuple[Tensor, ...]:
        kept = call.room()
        found = _forward(call, noise, weights, kept)
        ctx.call = call
        ctx.save_for_backward(kept, *weights)
        ctx.mark_non_differentiable(*found[1 + len(call.wanted()) :])
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_kl: Tensor | None, *of_found: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, *weights = ctx.saved_tensors
        call: _Call = ctx.call
        slopes: list[Tensor | None] = [None] * (1 + len(call.learned))
        slopes[0] = _contiguous(of_kl)
        for index, slope in zip(call.wanted(), of_found, strict=False):
            slopes[1 + index] = _contiguous(slope)
        gradients = [
            torch.empty_like(weight) if needed else None
            for weight, needed in zip(weights, ctx.needs_input_grad[2:], strict=True)
        ]
        _backward(call, weights, kept, slopes, gradients)
        return None, None, *gradients
