"""A variational recurrent network as in arXiv:1506.02216, one sequence and one time step after the other.

Imports nothing of ours: what `models` computes is compared with it. The paper's phi are the encoders (of x) alone; z
enters prior, decoders and recurrence as it is. Several modalities are concatenated, with zeros for the missing ones.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tests.reference.vae import Layer, perceptron


class Weights(NamedTuple):
    """encoders, decoders: name -> layers. join: of the concatenation. gates_x, gates_z, gates_h: of r, u and n."""

    encoders: Mapping[str, Sequence[Layer]]
    decoders: Mapping[str, Sequence[Layer]]
    join: Layer
    prior: Sequence[Layer]
    posterior: Sequence[Layer]
    gates_x: Layer
    gates_z: Tensor
    gates_h: Layer


def negative_elbo(
    values: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    lengths: Sequence[int],
    noise: Tensor,
    weights: Weights,
    deviation: Mapping[str, Tensor],
    floor: float,
) -> Tensor:
    """-sum_t E_q[log p(x_t | z_<=t, x_<t)] + KL(q(z_t | x_<=t, z_<t) || p(z_t | x_<t, z_<t)) (eq. 11): (B,).

    values: name -> (B, T, D), densities N(decoder, deviation^2). present: name -> (B, T). noise: (B, T, Z).
    """
    losses = []
    for row, length in enumerate(lengths):
        h = noise.new_zeros(1, weights.gates_h[0].shape[1])
        loss = noise.new_zeros(())
        for t in range(length):
            parts = []
            for name in sorted(weights.encoders):
                phi = perceptron(values[name][row, t].unsqueeze(0), weights.encoders[name])
                parts.append(phi if present[name][row, t] else torch.zeros_like(phi))
            x = _silu(_affine(torch.cat(parts, dim=1), weights.join))
            prior_mean, prior_deviation = _moments(perceptron(h, weights.prior), floor)  # eq. 5
            mean, spread = _moments(perceptron(torch.cat([x, h], dim=1), weights.posterior), floor)  # eq. 9
            z = mean + spread * noise[row, t]
            loss = loss + _divergence(mean, spread, prior_mean, prior_deviation)
            for name, layers in weights.decoders.items():
                if present[name][row, t]:
                    centre = perceptron(torch.cat([z, h], dim=1), layers)  # eq. 6
                    loss = loss - _log_density(values[name][row, t], centre[0], deviation[name])
            h = _gru(x, z, h, weights)  # eq. 7
        losses.append(loss)
    return torch.stack(losses)


def _gru(x: Tensor, z: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """The gated recurrent unit of arXiv:1406.1078, with the reset gate behind the recurrent product."""
    r_x, u_x, n_x = (_affine(x, weights.gates_x) + z @ weights.gates_z.T).chunk(3, dim=1)
    r_h, u_h, n_h = _affine(h, weights.gates_h).chunk(3, dim=1)
    r, u = torch.sigmoid(r_x + r_h), torch.sigmoid(u_x + u_h)
    return (1 - u) * torch.tanh(n_x + r * n_h) + u * h


def _affine(x: Tensor, layer: Layer) -> Tensor:
    return x @ layer[0].T + layer[1]


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _moments(raw: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    mean, unbounded = raw.chunk(2, dim=1)
    return mean, torch.log1p(torch.exp(unbounded)) + floor


def _divergence(mean: Tensor, deviation: Tensor, prior_mean: Tensor, prior_deviation: Tensor) -> Tensor:
    ratio = (deviation**2 + (mean - prior_mean) ** 2) / prior_deviation**2
    return (torch.log(prior_deviation / deviation) + 0.5 * (ratio - 1)).sum()


def _log_density(value: Tensor, centre: Tensor, deviation: Tensor) -> Tensor:
    return (-0.5 * ((value - centre) / deviation) ** 2 - torch.log(deviation) - 0.5 * math.log(2 * math.pi)).sum()
