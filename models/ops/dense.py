"""Fully connected networks as the kernels of the MM-VAE read them."""

from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# dense.h has the same numbers, and torch's default parameters of each.
ACTIVATIONS: dict[type[nn.Module], int] = {nn.SiLU: 0, nn.ReLU: 1, nn.Tanh: 2, nn.ELU: 3, nn.LeakyReLU: 4}
RESHAPES = (nn.Flatten, nn.Unflatten)
# Constants in dense.h and posterior.cpp: the layer's attribute and its value.
DEFAULTS: dict[type[nn.Module], tuple[str, float]] = {
    nn.ELU: ("alpha", 1.0),
    nn.LeakyReLU: ("negative_slope", 0.01),
    nn.LayerNorm: ("eps", 1e-5),
}

FLOAT32 = "it computes with contiguous float32 on the CPU"


class Unsupported(Exception):
    """A kernel does not compute this; the message says why."""


class Dense(NamedTuple):
    """Linear layers with one kind of activation between them, and LayerNorms in front of these or nowhere.

    activation: its number. widths: of the input, the hidden layers and the output.
    """

    activation: int
    widths: list[int]
    linears: list[nn.Linear]
    norms: list[nn.LayerNorm]

    @property
    def weights(self) -> list[Tensor]:
        """Weight and bias of each linear layer."""
        return [weight for linear in self.linears for weight in (linear.weight, linear.bias)]


class Snapshot:
    """Modules as they were when a kernel read them: their children and tensors, the modes of dropout, and no hooks.

    Reads torch's own dictionaries of a module: by public accessors a comparison takes four times as long, and torch has
    no public list of hooks (docs/decisions/0058).
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        """Raises Unsupported for a module with hooks: a kernel would not call them."""
        for module in modules:
            if any(_hooks(module)):
                raise Unsupported(f"{type(module).__name__} has a hook")
        self._hooks = [hooks for module in modules for hooks in _hooks(module)]
        contents = [part for one in modules for part in (one._modules, one._parameters, one._buffers)]
        self._contents: list[Mapping[str, Any]] = [part for part in contents if part]
        self._dropouts = [module for module in modules if isinstance(module, nn.Dropout)]
        self._found = self._look()
        # keeps the objects alive, so that their ids stay theirs
        self._alive = [value for part in self._contents for value in part.values()]

    def holds(self) -> bool:
        """Whether nothing has changed."""
        return not any(self._hooks) and self._look() == self._found

    def _look(self) -> tuple[list[int], list[bool]]:
        values = chain.from_iterable([part.values() for part in self._contents])
        return list(map(id, values)), [module.training for module in self._dropouts]


def leaves(module: nn.Module, visited: list[nn.Module]) -> Iterator[nn.Module]:
    """The layers of nested sequences in order, without those that only reshape, and without dropout in evaluation mode.

    Every module goes to `visited`.
    """
    visited.append(module)
    kind = type(module)
    if kind is nn.Sequential:
        for layer in module.children():
            yield from leaves(layer, visited)
    elif kind not in RESHAPES and not (kind is nn.Dropout and not module.training):
        yield module


def _hooks(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks


def read(layers: list[nn.Module]) -> Dense:
    """The network that these layers are. Raises Unsupported."""
    linears: list[nn.Linear] = []
    norms: list[nn.LayerNorm] = []
    activations: list[type[nn.Module]] = []
    for layer in layers:
        kind = type(layer)
        if kind in DEFAULTS and getattr(layer, DEFAULTS[kind][0]) != DEFAULTS[kind][1]:
            raise Unsupported(f"{layer} has {DEFAULTS[kind][0]} other than {DEFAULTS[kind][1]}")
        if isinstance(layer, nn.Linear) and kind is nn.Linear and len(linears) == len(activations):
            linears.append(layer)
        elif isinstance(layer, nn.LayerNorm) and kind is nn.LayerNorm and len(norms) == len(linears) - 1:
            norms.append(layer)
        elif kind in ACTIVATIONS and len(activations) == len(linears) - 1:
            activations.append(kind)
        else:
            raise Unsupported(f"the kernel has no {kind.__name__} in this place")
    hidden = len(linears) - 1
    if hidden < 0 or len(activations) != hidden or len(norms) not in (0, hidden):
        raise Unsupported("the network is not a sequence of linear layers with one activation between two layers")
    if len(set(activations)) > 1:
        raise Unsupported("the network has several kinds of activations")
    widths = [linears[0].in_features, *(layer.out_features for layer in linears)]
    if any(before.out_features != after.in_features for before, after in pairwise(linears)):
        raise Unsupported("the widths of the layers differ")
    if any(layer.bias is None for layer in linears) or any(layer.bias is None for layer in norms):
        raise Unsupported("a layer has no bias")
    return Dense(ACTIVATIONS[activations[0]] if activations else 0, widths, linears, norms)


def readable(tensor: Tensor) -> bool:
    """Whether a kernel can read the tensor in place. PyTorch counts no changes of inference tensors."""
    return tensor.dtype is torch.float32 and tensor.is_cpu and tensor.is_contiguous() and not tensor.is_inference()


def constant(tensor: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Data for a kernel, of this many numbers, contiguous. Raises Unsupported."""
    if tensor.numel() != size:
        raise Unsupported("inputs, targets and noise do not have the same rows")
    if tensor.dtype is not dtype or not tensor.is_cpu:
        raise Unsupported(FLOAT32)
    if tensor.requires_grad:
        raise Unsupported("a gradient of the data or the noise is wanted")
    return tensor.contiguous()
