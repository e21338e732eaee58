"""The loop over time of an MM-VRNN as one native function, where `models/ops/build.py` has made it.

A step over time is a dozen small operations, and PyTorch takes longer to start most of them than to compute them. The
library computes in float32 on the CPU; for anything else, and where it was not built, the PyTorch loop serves.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models import ops
from models.inference import Concatenation, Inference
from models.ops import library
from models.recurrence import GRU, Recurrence


class Followed(NamedTuple):
    """Means, standard deviations and codes of every step, (N, T, Z) each, and the states (N, T + 1, L H)."""

    means: Tensor
    deviations: Tensor
    codes: Tensor
    states: Tensor


def loop_over_time() -> str:
    """What runs over time, in words for a log."""
    return "native" if library.available() else "PyTorch (make kernels builds a faster one)"


def follow(
    inference: Inference, recurrence: Recurrence, prepared: Tensor, gates: Tensor, noise: Tensor | None, state: Tensor
) -> Followed | None:
    """The loop of `MMVRNN.follow`, or None where it is not for this library.

    prepared: (N, T, P) of `inference.prepare`. gates: (N, T, 3 H) of `recurrence.prepare`. noise: (N, T, Z) or None to
    follow means. state: (N, L H), before the first step. Gradients reach all of them and the weights, once.
    """
    if not ops.serves("the loop over time", supports(inference, recurrence, prepared, gates, noise, state)):
        return None
    parts = weights(cast(Concatenation, inference), cast(GRU, recurrence))
    tensors = [prepared, gates, state, noise, *parts]
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        return Followed(*_Follow.apply(*tensors))  # type: ignore[no-untyped-call] # it has no types
    return _forward(prepared, gates, state, noise, parts, None)


def supports(
    inference: Inference, recurrence: Recurrence, prepared: Tensor, gates: Tensor, noise: Tensor | None, state: Tensor
) -> str | None:
    """Why the kernel cannot compute this loop, or None where it can."""
    if not library.available():
        return library.NOT_BUILT
    if type(recurrence) is not GRU:
        return f"it computes GRUs, this is {type(recurrence).__name__}"
    if type(inference) is not Concatenation:
        return f"it computes posteriors of a concatenation, this is {type(inference).__name__}"
    if not prepared.numel():
        return "there are no steps"
    tensors = [prepared, gates, state, noise, *weights(inference, recurrence)]
    if not all(tensor is None or _ours(tensor) for tensor in tensors):
        return "it computes with float32 on the CPU"
    return None


def weights(inference: Concatenation, recurrence: GRU) -> list[Tensor | None]:
    """In the library's order: the posterior's, then of each layer recurrent and below, weight and bias."""
    found = [inference.state.weight, inference.output.weight, inference.output.bias, recurrence.latent.weight]
    layers: list[Tensor | None] = []
    for index, recurrent in enumerate(recurrence.recurrent):
        below = cast(nn.Linear, recurrence.below[index - 1]) if index else None
        layers += [cast(nn.Linear, recurrent).weight, cast(nn.Linear, recurrent).bias]
        layers += [None, None] if below is None else [below.weight, below.bias]
    return [*found, *layers]


def _ours(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


class _Sizes(NamedTuple):
    """As the library reads them: N, T, P, Z, H, L and threads."""

    sequences: int
    steps: int
    hidden: int
    latent: int
    recurrent: int
    layers: int
    threads: int

    @classmethod
    def of(cls, prepared: Tensor, parts: Sequence[Tensor | None]) -> "_Sizes":
        latent = cast(Tensor, parts[3])
        layers = (len(parts) - 4) // 4
        rows, steps, hidden = prepared.shape
        return cls(rows, steps, hidden, latent.shape[1], latent.shape[0] // 3, layers, torch.get_num_threads())

    def call(
        self, name: str, given: Sequence[Tensor | None], parts: Sequence[Tensor | None], out: Sequence[Tensor | None]
    ) -> None:
        """Call a function of the library; all tensors contiguous."""
        arrays = [
            (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
            for tensors in (given, parts, out)
        ]
        getattr(library.current(), name)((ctypes.c_int64 * len(self))(*self), *arrays)


class _Layout(NamedTuple):
    """Of what is kept for the way back, and of the gradients found there: both (chunks, rows, pitch).

    A row has `steps` steps of a chunk, each of `columns` sequences, and of several layers one more.
    """

    kept: int
    slopes: int
    chunks: int
    steps: int
    pitch: int
    columns: int

    @classmethod
    def of(cls, sizes: _Sizes) -> "_Layout":
        found = (ctypes.c_int64 * 6)()
        library.current().sensorium_layout((ctypes.c_int64 * len(sizes))(*sizes), found)
        return cls(*found)

    def empty(self, rows: int) -> Tensor:
        """Room for so many rows; zeros where the last chunk may have fewer steps."""
        found = torch.empty(self.chunks, rows, self.pitch)
        found[-1].zero_()
        return found


def _forward(
    prepared: Tensor,
    gates: Tensor,
    state: Tensor,
    noise: Tensor | None,
    parts: Sequence[Tensor | None],
    kept: Tensor | None,
) -> Followed:
    sizes = _Sizes.of(prepared, parts)
    rows, steps, latent = sizes.sequences, sizes.steps, sizes.latent
    means, deviations, codes = (torch.empty(rows, steps, latent) for _ in range(3))
    found = Followed(means, deviations, codes, torch.empty(rows, steps + 1, sizes.layers * sizes.recurrent))
    given = [None if tensor is None else tensor.contiguous() for tensor in (prepared, gates, state, noise)]
    own = [None if tensor is None else tensor.contiguous() for tensor in parts]
    sizes.call("sensorium_forward", given, own, [*found, kept])
    return found


class _Follow(torch.autograd.Function):
    """The loop as one step of automatic differentiation: what it keeps grows with T, and nothing else is kept."""

    @staticmethod
    def forward(
        ctx: Any, prepared: Tensor, gates: Tensor, state: Tensor, noise: Tensor | None, *parts: Tensor | None
    ) -> tuple[Tensor, ...]:
        ctx.sizes = _Sizes.of(prepared, parts)
        layout = _Layout.of(ctx.sizes)
        kept = layout.empty(layout.kept)
        found = _forward(prepared, gates, state, noise, parts, kept)
        ctx.save_for_backward(noise, found.deviations, kept, *parts)
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_found: Tensor | None) -> tuple[Tensor | None, ...]:
        noise, deviations, kept, *parts = ctx.saved_tensors
        sizes: _Sizes = ctx.sizes
        layout = _Layout.of(sizes)
        rows, steps = sizes.sequences, sizes.steps
        of_prepared = torch.empty(rows, steps, sizes.hidden)
        of_gates = torch.empty(rows, steps, 3 * sizes.recurrent)
        of_state = torch.empty(rows, sizes.layers * sizes.recurrent)
        of_noise = torch.empty(rows, steps, sizes.latent) if ctx.needs_input_grad[3] else None
        slopes = layout.empty(layout.slopes)
        slopes_in = [None if tensor is None else tensor.contiguous() for tensor in of_found]
        given = [None if noise is None else noise.contiguous(), deviations, kept, *slopes_in]
        own = [None if tensor is None else tensor.contiguous() for tensor in parts]
        sizes.call("sensorium_backward", given, own, [of_prepared, of_gates, of_state, of_noise, slopes])
        return of_prepared, of_gates, of_state, of_noise, *_of_weights(sizes, layout, kept, slopes)


def _of_weights(sizes: _Sizes, layout: _Layout, kept: Tensor, slopes: Tensor) -> list[Tensor | None]:
    """The weights' gradients, each one product over all steps of all sequences; rows as the library lays them out."""
    hidden, latent, recurrent = sizes.hidden, sizes.latent, sizes.recurrent
    every = layout.steps * layout.columns
    before, after = kept[..., :every], kept[..., layout.columns : layout.columns + every]
    slopes = slopes[..., :every]
    sums = slopes.sum(dim=(0, 2))
    first_state, first_gates = 2 * hidden + 2 * latent, hidden + 2 * latent
    states = [_rows(first_state + 5 * recurrent * layer, recurrent) for layer in range(sizes.layers)]
    # the library has four parts of a layer's gates: n of the state, r, u, n of the input
    gates = [_rows(first_gates + recurrent * (4 * layer + 1), 3 * recurrent) for layer in range(sizes.layers)]
    found: list[Tensor | None] = [
        _product(slopes[:, :hidden], before[:, states[-1]]),
        _product(slopes[:, hidden:first_gates], before[:, :hidden]),
        sums[hidden:first_gates],
        _product(slopes[:, gates[0]], before[:, _rows(2 * hidden, latent)]),
    ]
    for layer, (state, of_input) in enumerate(zip(states, gates, strict=True)):
        of_state = _rows(of_input.start - recurrent, 3 * recurrent)
        product = _product(slopes[:, of_state], before[:, state])
        found += [product.roll(-recurrent, dims=0), sums[of_state].roll(-recurrent, dims=0)]
        if layer:
            found += [_product(slopes[:, of_input], after[:, states[layer - 1]]), sums[of_input]]
        else:
            found += [None, None]
    return found


def _rows(first: int, count: int) -> slice:
    return slice(first, first + count)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """sum over c of left_c right_c^T: (C, F, K), (C, D, K) -> (F, D)."""
    if len(left) == 1:
        return left[0] @ right[0].T
    return (left @ right.mT).sum(dim=0)
