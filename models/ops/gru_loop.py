"""The loop over the time steps of an MM-VRNN: the PyTorch reference, and a C++ kernel for a GRU on the CPU.

A step is a dozen small operations, and PyTorch takes longer to start most of them than to compute them.
"""

from typing import cast

import torch
from torch import Tensor, nn

from models import gaussian, ops
from models.inference_network import ConcatenationNetwork, InferenceNetwork
from models.ops import Backend, gru_loop_kernel, library
from models.ops.gru_loop_kernel import Loop
from models.recurrence import GRU, Recurrence


def loop(
    inference: InferenceNetwork,
    recurrence: Recurrence,
    prepared: Tensor,
    gates: Tensor,
    noise: Tensor | None,
    state: Tensor,
    backend: Backend = "auto",
) -> Loop:
    """q(z_t | ...), z_t and h_t of all steps, one step after the other (arXiv:1506.02216, eqs. 7 and 9).

    prepared: (N, T, P) of `inference.prepare`. gates: (N, T, G H) of `recurrence.prepare`. noise: (N, T, Z), or None to
    follow the posterior means. state: (N, state_features), before the first step. Gradients reach these tensors and the
    weights. The kernel's gradients can be taken once; a second time raises RuntimeError.
    """
    reason = supports(inference, recurrence, prepared.device) or _unfit(prepared, gates, noise, state)
    if not ops.serves("gru_loop", reason, backend):
        return reference(inference, recurrence, prepared, gates, noise, state)
    parts = weights(cast(ConcatenationNetwork, inference), cast(GRU, recurrence))
    return gru_loop_kernel.run(prepared, gates, state, noise, parts)


def reference(
    inference: InferenceNetwork,
    recurrence: Recurrence,
    prepared: Tensor,
    gates: Tensor,
    noise: Tensor | None,
    state: Tensor,
) -> Loop:
    """`loop` in PyTorch: any posterior and cell, any type of floating-point number, any device."""
    states, means, deviations, codes = [state], [], [], []
    for t in range(prepared.shape[1]):
        posterior = inference.step(prepared[:, t], recurrence.output(state))
        code = posterior.mean if noise is None else gaussian.draw(posterior, noise[:, t])
        state = recurrence.step(gates[:, t], code, state)
        states.append(state)
        means.append(posterior.mean)
        deviations.append(posterior.standard_deviation)
        codes.append(code)
    return Loop(*(torch.stack(each, dim=1) for each in (means, deviations, codes, states)))


def supports(inference: InferenceNetwork, recurrence: Recurrence, device: torch.device) -> str | None:
    """Why the kernel cannot serve a model with these parts on this device, or None where it can."""
    if type(recurrence) is not GRU:
        return f"the kernel computes a GRU, the model has {type(recurrence).__name__}"
    if type(inference) is not ConcatenationNetwork:
        return f"the kernel computes the posterior ConcatenationNetwork, the model has {type(inference).__name__}"
    if device.type != "cpu":
        return f"the kernel runs on the CPU, the model is on {device.type}"
    return None if library.available() else library.NOT_BUILT


def _unfit(*tensors: Tensor | None) -> str | None:
    """Why the kernel cannot take these inputs, or None where it can."""
    given = [tensor for tensor in tensors if tensor is not None]
    for tensor in given:
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            return f"the kernel computes float32 on the CPU, an input is {tensor.dtype} on {tensor.device}"
    return None if given[0].numel() else "there are no steps"


def weights(inference: ConcatenationNetwork, recurrence: GRU) -> list[Tensor]:
    """In the kernel's order: the posterior's, recurrent weight and bias of L layers, then below's of L - 1 layers."""
    found = [inference.state.weight, inference.output.weight, inference.output.bias, recurrence.latent.weight]
    for layer in [*recurrence.recurrent, *recurrence.below]:
        found += [cast(nn.Linear, layer).weight, cast(nn.Linear, layer).bias]
    return found
