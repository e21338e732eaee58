"""A variational autoencoder as in arXiv:1312.6114, of explicit weight matrices and plain torch operations.

Imports nothing of ours: what `models` computes is compared with it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Layer = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out,)."""


def perceptron(x: Tensor, layers: Sequence[Layer]) -> Tensor:
    """W_n silu(... silu(W_1 x + b_1) ...) + b_n: (B, in) -> (B, out)."""
    for weight, bias in layers[:-1]:
        x = x @ weight.T + bias
        x = x * torch.sigmoid(x)
    weight, bias = layers[-1]
    return x @ weight.T + bias


def negative_elbo(
    x: Tensor, noise: Tensor, encoder: Sequence[Layer], decoder: Sequence[Layer], deviation: Tensor, floor: float
) -> Tensor:
    """-E_q[log p(x | z)] + KL(q(z | x) || N(0, I)) with one draw (eqs. 7, 10 and appendices B, C.2): (B,).

    x: (B, D). noise: (B, Z). p(x | z) = N(decoder(z), deviation^2). The encoder gives m and s = softplus + floor, and
    q(z | x) = N(z; m, s^2) N(z; 0, I) / const: a posterior in which the prior is an expert (arXiv:1802.05335, eq. 4),
    where the paper takes N(m, s^2) alone.
    """
    mean, unbounded = perceptron(x, encoder).chunk(2, dim=1)
    variance = (torch.log1p(torch.exp(unbounded)) + floor) ** 2
    mean, variance = mean / (1 + variance), variance / (1 + variance)
    kl = -0.5 * (1 + torch.log(variance) - mean**2 - variance).sum(dim=1)
    z = mean + torch.sqrt(variance) * noise
    centre = perceptron(z, decoder)
    log_likelihood = -0.5 * ((x - centre) / deviation) ** 2 - torch.log(deviation) - 0.5 * math.log(2 * math.pi)
    return kl - log_likelihood.sum(dim=1)
