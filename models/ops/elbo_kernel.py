"""The operator `sensorium::elbo`: its registration with PyTorch, and the call of its CPU kernel.

`models/ops/elbo.py` says what it computes and calls it. A kernel for another device registers under the same name.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from models.ops import library

# The workspace has a multiple of this many columns: COLUMNS in columns.h.
COLUMNS = 16
# sizes: B rows, Z latent features, W modalities with targets, E errors, and the rows of the workspace. scalars: beta,
# free bits, and the weight of each modality. data: of each modality values, presence, targets, their presence, offset,
# scale and moment.
ARGUMENTS = "Tensor parameters, Tensor? noise, Tensor?[] data, Tensor plan, int[] sizes, float[] scalars"

_LIBRARY = torch.library.Library("sensorium", "FRAGMENT")
_LIBRARY.define(f"elbo({ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
# The two passes of its gradient. The forward pass also returns a workspace, which the backward pass reads.
_LIBRARY.define(f"elbo_forward({ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)")
_LIBRARY.define(f"elbo_backward(Tensor of_loss, Tensor workspace, {ARGUMENTS}) -> Tensor")
_FORWARD, _BACKWARD = torch.ops.sensorium.elbo_forward.default, torch.ops.sensorium.elbo_backward.default

_Data: TypeAlias = Sequence[Tensor | None]
_Ints: TypeAlias = Sequence[int]
_Floats: TypeAlias = Sequence[float]


class Outputs(NamedTuple):
    """What the operator returns: (B,), (B,), (B, Z), (W, B), (E,). Only the loss has a gradient."""

    loss: Tensor
    kl: Tensor
    kl_of_features: Tensor
    log_likelihood: Tensor
    errors: Tensor


def plan(numbers: Sequence[int]) -> tuple[Tensor, int]:
    """A model's numbers as the kernel reads them (`Model` in elbo.h), and the rows of its workspace."""
    with torch.inference_mode(False):
        found = torch.tensor(list(map(int, numbers)))
    rows = ctypes.c_int64()
    library.current().sensorium_elbo_rows(ctypes.c_void_p(found.data_ptr()), ctypes.byref(rows))
    return found, rows.value


class _Elbo(torch.autograd.Function):
    """The operator where a gradient of the parameters is wanted."""

    @staticmethod
    def forward(ctx: Any, plain: bool, parameters: Tensor, *others: Any) -> tuple[Tensor, ...]:
        # below PyTorch's dispatch; the backward pass uses the same arguments
        ctx.kernel = _Kernel(parameters, *others) if plain else None
        *outputs, workspace = ctx.kernel.forward() if plain else _FORWARD(parameters, *others)
        ctx.save_for_backward(workspace, parameters)
        ctx.others = others
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the kernel of the evidence lower bound has no second derivatives (create_graph=True)")
        gradient = None
        if of_loss is not None:
            workspace, parameters = ctx.saved_tensors
            if ctx.kernel is None:
                gradient = _BACKWARD(of_loss, workspace, parameters, *ctx.others)
            else:
                gradient = ctx.kernel.backward(of_loss, workspace)
        return None, gradient, None, None, None, None, None


def run(parameters: Tensor, *others: Any) -> Outputs:
    """The operator, called below PyTorch's dispatch where that is possible: it takes 20 us of a small step's 300."""
    return Outputs(*_autograd(parameters, *others))


def _autograd(parameters: Tensor, *others: Any) -> tuple[Tensor, ...]:
    # tensors of other types have no data, as in tracing
    plain = type(parameters) in (Tensor, nn.Parameter) and parameters.is_cpu
    if torch.is_grad_enabled() and parameters.requires_grad:
        found: tuple[Tensor, ...] = _Elbo.apply(plain, parameters, *others)  # type: ignore[no-untyped-call] # no types
        return found
    return _cpu(parameters, *others) if plain else _FORWARD(parameters, *others)[:5]


class _Kernel:
    """One call of the CPU kernel: the operator's arguments as C reads them."""

    def __init__(self, *arguments: Any) -> None:
        parameters, noise, data, plan, sizes, scalars = self._alive = arguments
        self._arguments = (
            ctypes.c_int64(sizes[0]),
            ctypes.c_void_p(plan.data_ptr()),
            _pointers([parameters, noise, *data]),
            (ctypes.c_float * len(scalars))(*scalars),
        )

    def outputs(self) -> tuple[Tensor, ...]:
        found = _empty(*self._alive)
        library.current().sensorium_elbo_forward(*self._arguments, _pointers([*found, None]))
        return found

    def forward(self) -> tuple[Tensor, ...]:
        """The outputs and the workspace."""
        found = _empty_forward(*self._alive)
        library.current().sensorium_elbo_forward(*self._arguments, _pointers(found))
        return found

    def backward(self, of_loss: Tensor, workspace: Tensor) -> Tensor:
        """The gradient of the parameters. Of the data, only their presence is read."""
        gradient, of_loss = torch.zeros_like(self._alive[0]), of_loss.contiguous()
        others = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (workspace, of_loss, gradient)]
        library.current().sensorium_elbo_backward(*self._arguments, *others)
        return gradient


def _cpu(*arguments: Any) -> tuple[Tensor, ...]:
    return _Kernel(*arguments).outputs()


def _cpu_forward(*arguments: Any) -> tuple[Tensor, ...]:
    return _Kernel(*arguments).forward()


def _cpu_backward(of_loss: Tensor, workspace: Tensor, *arguments: Any) -> Tensor:
    return _Kernel(*arguments).backward(of_loss, workspace)


def _empty(
    parameters: Tensor, noise: Tensor | None, data: _Data, plan: Tensor, sizes: _Ints, scalars: _Floats
) -> tuple[Tensor, ...]:
    """Loss (B,), KL (B,), KL of every latent feature (B, Z), log-likelihoods (W, B), and errors (E,)."""
    rows, latent, wanted, errors, _ = sizes
    return tuple(parameters.new_empty(shape) for shape in ((rows,), (rows,), (rows, latent), (wanted, rows), (errors,)))


def _empty_forward(
    parameters: Tensor, noise: Tensor | None, data: _Data, plan: Tensor, sizes: _Ints, scalars: _Floats
) -> tuple[Tensor, ...]:
    """The same and the workspace."""
    outputs = _empty(parameters, noise, data, plan, sizes, scalars)
    return (*outputs, parameters.new_empty(sizes[4] * (-(-sizes[0] // COLUMNS) * COLUMNS)))


def _empty_backward(of_loss: Tensor, workspace: Tensor, parameters: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(parameters)


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[None if tensor is None else tensor.data_ptr() for tensor in tensors])


_LIBRARY.impl("elbo", _autograd, "Autograd")
_LIBRARY.impl("elbo", _cpu, "CPU")
_LIBRARY.impl("elbo_forward", _cpu_forward, "CPU")
_LIBRARY.impl("elbo_backward", _cpu_backward, "CPU")
torch.library.register_fake("sensorium::elbo", _empty, lib=_LIBRARY)
torch.library.register_fake("sensorium::elbo_forward", _empty_forward, lib=_LIBRARY)
torch.library.register_fake("sensorium::elbo_backward", _empty_backward, lib=_LIBRARY)
