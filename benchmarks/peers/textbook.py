"""What a textbook's reader would write: the models of arXiv:1506.02216 and 1802.05335 in plain PyTorch modules.

Imports nothing of ours. Everything of a step of the VRNN stands in its loop over time, batched; what is missing is
concatenated as zeros, and its density does not count.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

FLOOR = 1e-3


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths with SiLU between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


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
    """A variational recurrent network of several modalities; of Gaussian densities with a fixed deviation each."""

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
        """Eq. 11 of every sequence, (B,). values: name -> (B, T, D), present: (B, T). noise: (B, T, Z)."""
        rows, steps = noise.shape[:2]
        states = [noise.new_zeros(rows, self.sizes.recurrent) for _ in self.cells]
        loss = noise.new_zeros(rows)
        for t in range(steps):
            h = states[-1]
            x = self._fused(values, present, t)
            prior_mean, prior_deviation = _moments(self.prior(h))
            mean, deviation = _moments(self.posterior(torch.cat([x, h], dim=1)))
            z = mean + deviation * noise[:, t]
            ratio = (deviation / prior_deviation) ** 2
            distance = ((mean - prior_mean) / prior_deviation) ** 2
            loss = loss + 0.5 * (ratio + distance - 1 - torch.log(ratio)).sum(dim=1)
            for name, decoder in self.decoders.items():
                spread = self.deviation[name]
                residual = (values[name][:, t] - decoder(torch.cat([z, h], dim=1))) / spread
                density = (-0.5 * residual**2 - math.log(spread) - 0.5 * math.log(2 * math.pi)).sum(dim=1)
                loss = loss - torch.where(present[name][:, t], density, 0.0)
            states = self._next(torch.cat([x, z], dim=1), states)
        return loss

    def encode(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The posteriors' moments along the path of their means: (B, T, Z) twice."""
        first = next(iter(values.values()))
        states = [first.new_zeros(len(first), self.sizes.recurrent) for _ in self.cells]
        means, deviations = [], []
        for t in range(first.shape[1]):
            x = self._fused(values, present, t)
            mean, deviation = _moments(self.posterior(torch.cat([x, states[-1]], dim=1)))
            states = self._next(torch.cat([x, mean], dim=1), states)
            means.append(mean)
            deviations.append(deviation)
        return torch.stack(means, dim=1), torch.stack(deviations, dim=1)

    def _fused(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], t: int) -> Tensor:
        features = [
            encoder(values[name][:, t]) * present[name][:, t].unsqueeze(1) for name, encoder in self.encoders.items()
        ]
        return functional.silu(self.join(torch.cat(features, dim=1)))

    def _next(self, below: Tensor, states: list[Tensor]) -> list[Tensor]:
        after = []
        for cell, state in zip(self.cells, states, strict=True):
            below = cell(below, state)
            after.append(below)
        return after


class VAE(nn.Module):
    """A multimodal variational autoencoder whose posterior is a product of experts, the prior among them."""

    def __init__(self, modalities: Mapping[str, int], latent: int, hidden: int, deviation: Mapping[str, float]) -> None:
        super().__init__()
        self.latent = latent
        self.deviation = deviation
        items = sorted(modalities.items())
        self.encoders = nn.ModuleDict({name: perceptron([width, hidden, 2 * latent]) for name, width in items})
        self.decoders = nn.ModuleDict({name: perceptron([latent, hidden, width]) for name, width in items})

    def negative_elbo(
        self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], noise: Tensor, beta: float
    ) -> Tensor:
        """The negative bound of every sample, (B,), given the modalities that are present, of all of them."""
        precision, weighted = torch.ones_like(noise), torch.zeros_like(noise)
        for name, encoder in self.encoders.items():
            mean, deviation = _moments(encoder(values[name]))
            own = present[name].unsqueeze(1) / deviation**2
            precision, weighted = precision + own, weighted + own * mean
        mean, deviation = weighted / precision, 1 / torch.sqrt(precision)
        z = mean + deviation * noise
        loss = beta * 0.5 * (deviation**2 + mean**2 - 1 - torch.log(deviation**2)).sum(dim=1)
        for name, decoder in self.decoders.items():
            spread = self.deviation[name]
            residual = (values[name] - decoder(z)) / spread
            loss = loss + (0.5 * residual**2 + math.log(spread) + 0.5 * math.log(2 * math.pi)).sum(dim=1)
        return loss


def _moments(raw: Tensor) -> tuple[Tensor, Tensor]:
    mean, unbounded = raw.chunk(2, dim=1)
    return mean, functional.softplus(unbounded) + FLOOR
