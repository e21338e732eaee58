"""Diagonal Gaussians: KL divergence, log-density, draws, product of experts."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Gaussian(NamedTuple):
    """N(mean, diag(standard_deviation^2)) over the last axis; both of one shape (..., Z)."""

    mean: Tensor
    standard_deviation: Tensor

    @property
    def precision(self) -> Tensor:
        """1 / standard_deviation^2, (..., Z)."""
        return self.standard_deviation.square().reciprocal()


# The smallest standard deviation. It bounds a precision by 1e6, so that float32 sums over several experts stay exact
# enough; the prior's standard deviation is about 1.
FLOOR = 1e-3
TINY = 1e-30


def from_raw(raw: Tensor) -> Gaussian:
    """The Gaussian that a network's output parametrises: softplus plus a floor keeps standard deviations positive.

    raw: (..., 2 Z), means, then unbounded deviations. Returns (..., Z) twice.
    """
    # networks may have computed in half precision
    mean, deviation = (raw if raw.dtype == torch.float64 else raw.float()).chunk(2, dim=-1)
    # softplus takes ten times as long on a strided view
    return Gaussian(mean, functional.softplus(deviation.contiguous()) + FLOOR)


def standard(like: Tensor) -> Gaussian:
    """N(0, I) of the shape, dtype and device of `like`."""
    return Gaussian(torch.zeros_like(like), torch.ones_like(like))


def draw(gaussian: Gaussian, noise: Tensor) -> Tensor:
    """mean + standard_deviation * noise, noise ~ N(0, I) (arXiv:1312.6114, section 2.4). Zero noise gives the mean."""
    return gaussian.mean + gaussian.standard_deviation * noise


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats of each dimension: no axis is summed.

    log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2 (arXiv:1312.6114, app. B: p = N(0, I)).
    """
    ratio = (q.standard_deviation / p.standard_deviation).square()
    distance = ((q.mean - p.mean) / p.standard_deviation).square()
    return 0.5 * (ratio + distance - 1 - ratio.log())


def kl_from_standard(q: Gaussian) -> Tensor:
    """`kl_divergence` from N(0, I), in half the operations: nats of each dimension."""
    variance = q.standard_deviation.square()
    return 0.5 * (variance + q.mean.square() - 1 - variance.log())


def log_density(value: Tensor, gaussian: Gaussian) -> Tensor:
    """log N(value; mean, standard_deviation^2) in nats of each element: no axis is summed."""
    distance = ((value - gaussian.mean) / gaussian.standard_deviation).square()
    return -0.5 * (distance + math.log(2 * math.pi)) - gaussian.standard_deviation.log()


def product_of_experts(mean: Tensor, precision: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Normalised product of N(mean_m, 1 / precision_m) over the present experts (arXiv:1802.05335, eq. 4).

    mean, precision: (M, ..., Z). present: (M, ...) bool, None if all are. Returns mean and precision, (..., Z) each;
    both are 0 where no expert is present. The caller passes the prior as expert 0: N(0, I) in the VAE, p(z_t | h_t) in
    the VRNN.
    """
    if present is None:
        total = precision.sum(dim=0)
        return (mean * precision).sum(dim=0) / total, total
    precision = torch.where(present.unsqueeze(-1), precision, 0.0)
    total = precision.sum(dim=0)
    return (mean * precision).sum(dim=0) / total.clamp(min=TINY), total


def precision_shares(precision: Tensor, present: Tensor) -> Tensor:
    """Each expert's share in the precision of their product, averaged over the latent features: 0 to 1, sum 1 over M.

    precision: (M, ..., Z). present: (M, ...) bool, true for at least one expert everywhere. Returns (M, ...).
    """
    precision = torch.where(present.unsqueeze(-1), precision, 0.0)
    return (precision / precision.sum(dim=0)).mean(dim=-1)
