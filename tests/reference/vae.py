"""The multimodal variational autoencoder of arXiv:1802.05335 in plain PyTorch modules, as a textbook has it.

Imports nothing from `models`: tests compare `models` with it, and benchmarks time it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# Standard deviations are softplus + FLOOR.
FLOOR = 1e-3


class VAE(nn.Module):
    """A product of experts, the prior N(0, I) among them. Densities are Gaussian with one fixed deviation each."""

    def __init__(self, modalities: Mapping[str, int], latent: int, hidden: int, deviation: Mapping[str, float]) -> None:
        super().__init__()
        self.latent = latent
        self.deviation = deviation
        items = sorted(modalities.items())
        self.encoders = nn.ModuleDict({name: perceptron([width, hidden, 2 * latent]) for name, width in items})
        self.decoders = nn.ModuleDict({name: perceptron([latent, hidden, width]) for name, width in items})

    def encode(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z | x) (eq. 4). values: name -> (B, D). present: (B,). (B, Z) twice."""
        precision, weighted = torch.ones(()), torch.zeros(())
        for name, encoder in self.encoders.items():
            mean, deviation = moments(encoder(values[name]))
            own = present[name].unsqueeze(1) / deviation**2
            precision, weighted = precision + own, weighted + own * mean
        return weighted / precision, 1 / torch.sqrt(precision)

    def negative_elbo(
        self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], noise: Tensor, beta: float
    ) -> Tensor:
        """-log p(x | z) + beta KL(q(z | x) || p(z)) with one draw z: (B,).

        Modalities that are not present do not inform z. The density of all modalities counts.
        """
        mean, deviation = self.encode(values, present)
        z = mean + deviation * noise
        loss = beta * 0.5 * (deviation**2 + mean**2 - 1 - torch.log(deviation**2)).sum(dim=1)
        for name, decoder in self.decoders.items():
            loss = loss - log_density(values[name], decoder(z), self.deviation[name])
        return loss


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths with SiLU between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def moments(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation: (..., 2 Z) -> (..., Z) twice."""
    mean, unbounded = raw.chunk(2, dim=-1)
    return mean, functional.softplus(unbounded) + FLOOR


def log_density(value: Tensor, centre: Tensor, deviation: float) -> Tensor:
    """log N(value; centre, deviation^2), summed over the last axis."""
    residual = (value - centre) / deviation
    return (-0.5 * residual**2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)).sum(dim=-1)
