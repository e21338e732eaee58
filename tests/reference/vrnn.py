"""The variational recurrent network of arXiv:1506.02216 in plain PyTorch modules: as a textbook has it, and hoisted.

Imports nothing from `models`: tests compare `models` with it, and benchmarks time it. The paper's phi are the encoders
(of x) alone; z enters prior, decoders and recurrence as it is. Modalities are concatenated, with zeros for the missing
ones.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference.vae import log_density, moments, perceptron


class Widths(NamedTuple):
    """Sizes of a VRNN; `network` is the hidden width of its encoders and decoders."""

    modalities: Mapping[str, int]
    latent: int
    feature: int
    hidden: int
    recurrent: int
    layers: int
    network: int


class VRNN(nn.Module):
    """Everything of a step stands in the loop over time. Densities are Gaussian with one fixed deviation each."""

    def __init__(self, sizes: Widths, deviation: Mapping[str, float]) -> None:
        super().__init__()
        self.sizes = sizes
        self.deviation = deviation
        seen = sizes.latent + sizes.recurrent
        items = sorted(sizes.modalities.items())
        self.encoders = nn.ModuleDict({n: perceptron([w, sizes.network, sizes.feature]) for n, w in items})
        self.decoders = nn.ModuleDict({n: perceptron([seen, sizes.network, w]) for n, w in items})
        self.join = nn.Linear(len(items) * sizes.feature, sizes.hidden)
        self.prior = perceptron([sizes.recurrent, sizes.hidden, 2 * sizes.latent])
        self.posterior = perceptron([sizes.hidden + sizes.recurrent, sizes.hidden, 2 * sizes.latent])
        inputs = [sizes.hidden + sizes.latent] + [sizes.recurrent] * (sizes.layers - 1)
        self.cells = nn.ModuleList(nn.GRUCell(width, sizes.recurrent) for width in inputs)

    def negative_elbo(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """-sum_t log p(x_t | z_<=t, x_<t) + KL(q(z_t | x_<=t, z_<t) || p(z_t | x_<t, z_<t)) (eq. 11): (B,).

        values: name -> (B, T, D). present: name -> (B, T); the density of what is missing does not count. noise:
        (B, T, Z). All sequences have T steps.
        """
        states = self._initial(noise)
        loss = noise.new_zeros(len(noise))
        for t in range(noise.shape[1]):
            h = states[-1]
            x = self._fused({n: v[:, t] for n, v in values.items()}, {n: p[:, t] for n, p in present.items()})
            prior_mean, prior_deviation = moments(self.prior(h))  # eq. 5
            mean, deviation = moments(self.posterior(torch.cat([x, h], dim=1)))  # eq. 9
            z = mean + deviation * noise[:, t]
            loss = loss + _divergence(mean, deviation, prior_mean, prior_deviation)
            for name, decoder in self.decoders.items():  # eq. 6
                density = log_density(values[name][:, t], decoder(torch.cat([z, h], dim=1)), self.deviation[name])
                loss = loss - torch.where(present[name][:, t], density, 0.0)
            states = self._next(torch.cat([x, z], dim=1), states)  # eq. 7
        return loss

    def encode(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every q(z_t | ...) along the path of the means: (B, T, Z) twice."""
        first = next(iter(values.values()))
        states = self._initial(first)
        means, deviations = [], []
        for t in range(first.shape[1]):
            x = self._fused({n: v[:, t] for n, v in values.items()}, {n: p[:, t] for n, p in present.items()})
            mean, deviation = moments(self.posterior(torch.cat([x, states[-1]], dim=1)))
            states = self._next(torch.cat([x, mean], dim=1), states)
            means.append(mean)
            deviations.append(deviation)
        return torch.stack(means, dim=1), torch.stack(deviations, dim=1)

    def _initial(self, like: Tensor) -> list[Tensor]:
        return [like.new_zeros(len(like), self.sizes.recurrent) for _ in self.cells]

    def _fused(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        features = [encoder(values[name]) * present[name].unsqueeze(-1) for name, encoder in self.encoders.items()]
        return functional.silu(self.join(torch.cat(features, dim=-1)))

    def _next(self, below: Tensor, states: list[Tensor]) -> list[Tensor]:
        after = []
        for cell, state in zip(self.cells, states, strict=True):
            below = cell(below, state)
            after.append(below)
        return after


class HoistedVRNN(VRNN):
    """The same model and parameters, with all that needs no state outside the loop over time.

    Encoders, fusion, and x's shares of posterior and gates come before the loop; prior and decoders come after it. This
    is as fast as plain PyTorch is without a kernel.
    """

    def negative_elbo(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """What `VRNN.negative_elbo` computes."""
        mean, deviation, z, h = self._path(values, present, noise)
        loss = _divergence(mean, deviation, *moments(self.prior(h))).sum(dim=1)
        seen = torch.cat([z, h], dim=-1)
        for name, decoder in self.decoders.items():
            density = log_density(values[name], decoder(seen), self.deviation[name])
            loss = loss - torch.where(present[name], density, 0.0).sum(dim=1)
        return loss

    def encode(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What `VRNN.encode` computes."""
        mean, deviation, _, _ = self._path(values, present, None)
        return mean, deviation

    def _path(
        self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Moments of the posteriors, codes, and h_{t-1} of every step: (B, T, Z) three times, (B, T, H)."""
        x = self._fused(values, present)
        first, _, last = cast(tuple[nn.Linear, nn.SiLU, nn.Linear], tuple(self.posterior))
        cell, *upper = cast(list[nn.GRUCell], list(self.cells))
        of_x, of_h = first.weight.split([self.sizes.hidden, self.sizes.recurrent], dim=1)
        gates_x, gates_z = cell.weight_ih.split([self.sizes.hidden, self.sizes.latent], dim=1)
        hidden = functional.linear(x, of_x, first.bias).unbind(dim=1)
        gates = functional.linear(x, gates_x, cell.bias_ih).unbind(dim=1)
        noises = [None] * len(hidden) if noise is None else noise.unbind(dim=1)
        states = self._initial(x)
        raws, codes, before = [], [], []
        for seen, gate, draw in zip(hidden, gates, noises, strict=True):
            before.append(states[-1])
            raw = last(functional.silu(seen + functional.linear(states[-1], of_h)))
            mean, deviation = moments(raw)
            code = mean if draw is None else mean + deviation * draw
            below = self._gru(gate + functional.linear(code, gates_z), states[0], cell)
            after = [below]
            for other, state in zip(upper, states[1:], strict=True):
                below = other(below, state)
                after.append(below)
            states = after
            raws.append(raw)
            codes.append(code)
        mean, deviation = moments(torch.stack(raws, dim=1))
        return mean, deviation, torch.stack(codes, dim=1), torch.stack(before, dim=1)

    def _gru(self, gates: Tensor, state: Tensor, cell: nn.GRUCell) -> Tensor:
        """The gated recurrent unit of arXiv:1406.1078, with the reset gate behind the recurrent product."""
        own = functional.linear(state, cell.weight_hh, cell.bias_hh)
        width = 2 * self.sizes.recurrent
        reset, update = torch.sigmoid(gates[:, :width] + own[:, :width]).chunk(2, dim=1)
        candidate = torch.tanh(gates[:, width:] + reset * own[:, width:])
        return torch.lerp(candidate, state, update)


def _divergence(mean: Tensor, deviation: Tensor, prior_mean: Tensor, prior_deviation: Tensor) -> Tensor:
    """KL(N(mean, deviation^2) || N(prior_mean, prior_deviation^2)), summed over the last axis."""
    ratio = (deviation / prior_deviation) ** 2
    distance = ((mean - prior_mean) / prior_deviation) ** 2
    return 0.5 * (ratio + distance - 1 - torch.log(ratio)).sum(dim=-1)
