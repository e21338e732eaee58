"""The operator `sensorium::gru_loop`: its registration with PyTorch, and the call of its CPU kernel.

`models/ops/gru_loop.py` says what it computes and calls it. A kernel for another device registers under the same name.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.ops import library

# Values saved for backward are stored in chunks of about this many columns (one column per sequence and step): products
# over them are fast. With all steps in one row, the rows of one step are far apart, and look-ups in the page table take
# 16 ms at T = 100 and 128 features.
CHUNK_COLUMNS = 256
# Columns are padded to a multiple of these (models/ops/columns.h).
COLUMNS = 16


class Loop(NamedTuple):
    """Means, standard deviations and codes of all steps, (N, T, Z) each, and the states (N, T + 1, state_features)."""

    means: Tensor
    deviations: Tensor
    codes: Tensor
    states: Tensor


def run(prepared: Tensor, gates: Tensor, state: Tensor, noise: Tensor | None, weights: Sequence[Tensor]) -> Loop:
    """The operator where a gradient is wanted, else the kernel below PyTorch's dispatch.

    The dispatch takes as long as the kernel of a short sequence.
    """
    tensors = [prepared, gates, state, noise, *weights]
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        return Loop(*gru_loop(prepared, gates, state, noise, weights)[:4])
    return _forward(_Sizes.of(prepared, weights), prepared, gates, state, noise, weights, None)


class _Sizes(NamedTuple):
    """As the kernel reads them: N, T, P, Z, H, L, threads, and the layout of what is saved for backward.

    That is (chunks, rows, pitch): in each row the steps of one chunk, each of `columns` sequences.
    """

    sequences: int
    steps: int
    hidden: int
    latent: int
    recurrent: int
    layers: int
    threads: int
    chunk: int
    pitch: int

    @classmethod
    def of(cls, like: Tensor, parts: Sequence[Tensor]) -> "_Sizes":
        """Of a tensor (N, T, ...) and the weights."""
        (rows, steps), hidden = like.shape[:2], parts[0].shape[0]
        layers = (len(parts) - 2) // 4
        width = _padded(rows)
        # at least one step per chunk
        chunks = torch.sym_min(steps, -(-steps * width // CHUNK_COLUMNS))
        chunk = -(-steps // chunks)
        # With several layers one more step than the chunk has, for the state after it. An odd number of cache lines:
        # otherwise all rows would compete for the same places of the cache.
        lines = (chunk + (layers > 1)) * width // 16
        pitch = (lines + 1 - lines % 2) * 16
        latent, recurrent = parts[3].shape[1], parts[3].shape[0] // 3
        return cls(rows, steps, hidden, latent, recurrent, layers, torch.get_num_threads(), chunk, pitch)

    @property
    def inputs(self) -> list[tuple[int, ...]]:
        """The shapes of prepared, gates and state."""
        rows, steps = self.sequences, self.steps
        return [(rows, steps, self.hidden), (rows, steps, 3 * self.recurrent), (rows, self.layers * self.recurrent)]

    @property
    def columns(self) -> int:
        return _padded(self.sequences)

    @property
    def chunks(self) -> int:
        return -(-self.steps // self.chunk)

    @property
    def saved(self) -> int:
        """Rows that the forward pass saves for backward."""
        return 2 * self.hidden + 2 * self.latent + 5 * self.recurrent * self.layers

    @property
    def gradients(self) -> int:
        """Rows of the gradients of intermediate values."""
        return self.hidden + 2 * self.latent + 4 * self.recurrent * self.layers

    def empty(self, rows: int) -> Tensor:
        """A workspace of that many rows; zeros where the last chunk may have fewer steps."""
        found = torch.empty(self.chunks, rows, self.pitch)
        found[-1].zero_()
        return found

    def call(
        self, name: str, given: Sequence[Tensor | None], parts: Sequence[Tensor], out: Sequence[Tensor | None]
    ) -> None:
        """Call a function of the library; all tensors are contiguous."""
        arrays = [
            (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
            for tensors in (given, parts, out)
        ]
        getattr(library.current(), name)((ctypes.c_int64 * len(self))(*self), *arrays)


def _padded(rows: int) -> int:
    return (rows + COLUMNS - 1) // COLUMNS * COLUMNS


def _forward(
    sizes: _Sizes,
    prepared: Tensor,
    gates: Tensor,
    state: Tensor,
    noise: Tensor | None,
    parts: Sequence[Tensor],
    saved: Tensor | None,
) -> Loop:
    rows, steps, latent = sizes.sequences, sizes.steps, sizes.latent
    means, deviations, codes = (torch.empty(rows, steps, latent) for _ in range(3))
    found = Loop(means, deviations, codes, torch.empty(rows, steps + 1, sizes.layers * sizes.recurrent))
    given = _contiguous([prepared, gates, state, noise])
    own = [weight.contiguous() for weight in parts]
    sizes.call("sensorium_gru_loop_forward", given, own, [*found, saved])
    return found


@torch.library.custom_op("sensorium::gru_loop", mutates_args=(), device_types="cpu")
def gru_loop(
    prepared: Tensor, gates: Tensor, state: Tensor, noise: Tensor | None, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`loop` of a GRU and a ConcatenationNetwork with these weights: `Loop`, and what is saved for backward."""
    sizes = _Sizes.of(prepared, weights)
    saved = sizes.empty(sizes.saved)
    saved[..., sizes.chunk * sizes.columns :].zero_()  # an output is the same every time, padding included
    return *_forward(sizes, prepared, gates, state, noise, weights, saved), saved


@gru_loop.register_fake
def _(
    prepared: Tensor, gates: Tensor, state: Tensor, noise: Tensor | None, weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    sizes = _Sizes.of(prepared, weights)
    moments = [prepared.new_empty(sizes.sequences, sizes.steps, sizes.latent) for _ in range(3)]
    states = prepared.new_empty(sizes.sequences, sizes.steps + 1, sizes.layers * sizes.recurrent)
    return *moments, states, prepared.new_empty(sizes.chunks, sizes.saved, sizes.pitch)


@torch.library.custom_op("sensorium::gru_loop_backward", mutates_args=(), device_types="cpu")
def gru_loop_backward(
    noise: Tensor | None,
    deviations: Tensor,
    saved: Tensor,
    of_outputs: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """The gradients of prepared, gates, state, noise (of no elements for None) and weights, from those of `Loop`."""
    sizes = _Sizes.of(deviations, weights)
    of_inputs = [torch.empty(shape) for shape in sizes.inputs]
    of_noise = None if noise is None else torch.empty(noise.shape)
    gradients = sizes.empty(sizes.gradients)
    given = [*_contiguous([noise]), deviations, saved, *_contiguous(of_outputs)]
    own = [weight.contiguous() for weight in weights]
    sizes.call("sensorium_gru_loop_backward", given, own, [*of_inputs, of_noise, gradients])
    of_prepared, of_gates, of_state = of_inputs
    of_weights = _of_weights(sizes, saved, gradients)
    return of_prepared, of_gates, of_state, torch.empty(0) if of_noise is None else of_noise, of_weights


@gru_loop_backward.register_fake
def _(
    noise: Tensor | None,
    deviations: Tensor,
    saved: Tensor,
    of_outputs: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    sizes = _Sizes.of(deviations, weights)
    of_prepared, of_gates, of_state = (deviations.new_empty(shape) for shape in sizes.inputs)
    of_noise = deviations.new_empty(0 if noise is None else noise.shape)
    return of_prepared, of_gates, of_state, of_noise, [weight.new_empty(weight.shape) for weight in weights]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *_, noise, weights = inputs
    _, deviations, _, _, saved = output
    ctx.save_for_backward(noise, deviations, saved, *weights)
    ctx.mark_non_differentiable(saved)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *of_outputs: Tensor | None) -> tuple[Any, ...]:
    noise, deviations, saved, *weights = ctx.saved_tensors
    *of_inputs, of_noise, of_weights = gru_loop_backward(noise, deviations, saved, of_outputs[:4], weights)
    return *of_inputs, None if noise is None else of_noise, of_weights


def _no_second_gradient(ctx: Any, *of_outputs: Any) -> None:
    raise RuntimeError(
        "the kernel of gru_loop has no second derivative: take it from the reference, backend='reference'"
    )


gru_loop.register_autograd(_backward, setup_context=_save)
gru_loop_backward.register_autograd(_no_second_gradient)


def _contiguous(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _of_weights(sizes: _Sizes, saved: Tensor, gradients: Tensor) -> list[Tensor]:
    """The weights' gradients: one product over all steps of all sequences each. Rows as in gru_loop.h."""
    hidden, latent, recurrent = sizes.hidden, sizes.latent, sizes.recurrent
    width = sizes.chunk * sizes.columns
    before, after = saved[..., :width], saved[..., sizes.columns : sizes.columns + width]
    gradients = gradients[..., :width]
    sums = gradients.sum(dim=(0, 2))
    first_state, first_gates = 2 * hidden + 2 * latent, hidden + 2 * latent
    states = [_rows(first_state + 5 * recurrent * layer, recurrent) for layer in range(sizes.layers)]
    # a layer's gates have four parts: n of the state, then r, u, n of the input
    gates = [_rows(first_gates + recurrent * (4 * layer + 1), 3 * recurrent) for layer in range(sizes.layers)]
    found = [
        _product(gradients[:, :hidden], before[:, states[-1]]),
        _product(gradients[:, hidden:first_gates], before[:, :hidden]),
        sums[hidden:first_gates].clone(),
        _product(gradients[:, gates[0]], before[:, _rows(2 * hidden, latent)]),
    ]
    for state, of_input in zip(states, gates, strict=True):
        of_state = _rows(of_input.start - recurrent, 3 * recurrent)
        product = _product(gradients[:, of_state], before[:, state])
        found += [product.roll(-recurrent, dims=0), sums[of_state].roll(-recurrent, dims=0)]
    for state, of_input in zip(states[:-1], gates[1:], strict=True):
        found += [_product(gradients[:, of_input], after[:, state]), sums[of_input].clone()]
    return found


def _rows(first: int, count: int) -> slice:
    return slice(first, first + count)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """sum over c of left_c right_c^T: (C, F, K), (C, D, K) -> (F, D)."""
    if len(left) == 1:
        return left[0] @ right[0].T
    return (left @ right.mT).sum(dim=0)
