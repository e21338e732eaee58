"""Which of our parameters stand in which of the textbook's matrices, so that both compute with the same numbers."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from models.inference_network import ConcatenationNetwork
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from tests.reference.vae import VAE
from tests.reference.vrnn import VRNN

Weights = dict[Tensor, Tensor]
"""For each parameter of the textbook, its value in terms of the parameters of `models`."""


def sample_weights(model: MMVAE, peer: VAE) -> Weights:
    """All parameters of an MM-VAE."""
    return dict(_networks(model, peer))


def sequence_weights(model: MMVRNN, peer: VRNN) -> Weights:
    """All parameters of an MM-VRNN. Ours split the textbook's matrices by what they multiply."""
    posterior, recurrence = cast(ConcatenationNetwork, model.inference), model.recurrence
    found = dict(_networks(model, peer))
    found |= _paired(model.prior, peer.prior) | _paired(model.fusion, peer.join)
    first, last = _linears(peer.posterior)
    found[first.weight] = torch.cat([posterior.seen.weight, posterior.state.weight], dim=1)
    found[first.bias] = posterior.seen.bias
    found |= _paired(posterior.output, last)
    for index, (cell, recurrent) in enumerate(zip(peer.cells, recurrence.recurrent, strict=True)):
        cell, recurrent = cast(nn.GRUCell, cell), cast(nn.Linear, recurrent)
        below = cast(nn.Linear, recurrence.below[index - 1]) if index else recurrence.known
        latent = [] if index else [recurrence.latent.weight]
        found[cell.weight_ih] = torch.cat([below.weight, *latent], dim=1)
        found[cell.bias_ih] = below.bias
        found[cell.weight_hh] = recurrent.weight
        found[cell.bias_hh] = recurrent.bias
    return found


@torch.no_grad()
def take_over(peer: nn.Module, weights: Weights) -> None:
    """Give the textbook's model our weights. Raises ValueError where one of its parameters has no counterpart."""
    if set(weights) != set(peer.parameters()):
        raise ValueError("the textbook's model has other parameters than ours")
    for parameter, value in weights.items():
        parameter.copy_(value)


def gradients(loss: Tensor, model: nn.Module, weights: Weights | None = None) -> dict[str, Tensor]:
    """The gradients of a loss in the parameters of our model, by name.

    weights: those of the textbook's model that computed the loss; None for a loss of our model.
    """
    names, parameters = zip(*model.named_parameters(), strict=True)
    if weights is None:
        return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    found = torch.autograd.grad(loss, list(weights))
    return dict(zip(names, torch.autograd.grad(list(weights.values()), parameters, found), strict=True))


def _networks(model: MMVAE | MMVRNN, peer: VAE | VRNN) -> Iterator[tuple[Tensor, Tensor]]:
    for name, index in model.index.items():
        yield from _paired(model.encoders[index], peer.encoders[name]).items()
        yield from _paired(model.decoders[index], peer.decoders[name]).items()


def _paired(ours: nn.Module, theirs: nn.Module) -> Weights:
    found: Weights = {}
    for own, other in zip(_linears(ours), _linears(theirs), strict=True):
        found[other.weight] = own.weight
        found[other.bias] = own.bias
    return found


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
