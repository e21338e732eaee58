"""Training steps of an MM-VRNN and of the textbook's VRNN, and the bytes that a step saves for backward."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils import clip_grad_norm_

from models.batch import Batch
from models.mmvrnn import MMVRNN
from models.ops.elbo import elbo
from tests.reference.vrnn import VRNN

LEARNING_RATE = 1e-3

Step = Callable[[], None]


def ours(model: MMVRNN, batch: Batch, noise: Tensor, optimiser: torch.optim.Optimizer) -> Step:
    """A step of our model, with clipped gradients."""

    def step() -> None:
        optimiser.zero_grad()
        elbo(model, batch, batch, noise).loss.mean().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def textbook(peer: VRNN, batch: Batch, noise: Tensor, optimiser: torch.optim.Optimizer) -> Step:
    """A step of the textbook's model."""

    def step() -> None:
        optimiser.zero_grad()
        peer.negative_elbo(batch.values, batch.present, noise).mean().backward()
        optimiser.step()

    return step


def fused(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, fused."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that automatic differentiation saves for backward, each once."""
    storages: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(save, lambda tensor: tensor):
        forward()
    return sum(storages.values())
