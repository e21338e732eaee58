"""Diagonal Gaussians: KL divergence, log-density, draws, product."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Gaussian(NamedTuple):
    """N(mean, diag(standard_deviation^2)) over the last axis; both of one shape (..., Z)."""

    mean: Tensor
    standard_deviation: Tensor


# Below a thousandth of the prior's deviation a posterior says nothing more, and its precision stays under 1e6, where
# float32 sums of several experts are still exact enough.
FLOOR = 1e-3


def from_raw(raw: Tensor) -> Gaussian:
    """The Gaussian that a network's output parametrises: softplus plus a floor keeps the deviation positive.

    raw: (..., 2 Z), means then unbounded deviations. Returns two of (..., Z).
    """
    # networks may have computed in half precision
    mean, deviation = (raw if raw.dtype == torch.float64 else raw.float()).chunk(2, dim=-1)
    # of a view into `raw` softplus goes value by value, and takes ten times as long
    return Gaussian(mean, functional.softplus(deviation.contiguous()) + FLOOR)


def standard(like: Tensor) -> Gaussian:
    """N(0, I) in the shape, type and device of `like`."""
    return Gaussian(torch.zeros_like(like), torch.ones_like(like))


def draw(gaussian: Gaussian, noise: Tensor) -> Tensor:
    """mean + standard_deviation * noise, noise ~ N(0, I) (arXiv:1312.6114, section 2.4). Zero noise gives the mean."""
    return gaussian.mean + gaussian.standard_deviation * noise


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats of every dimension: no axis is summed.

    log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2 (arXiv:1312.6114, app. B: p = N(0, I)).
    """
    ratio = (q.standard_deviation / p.standard_deviation).square()
    distance = ((q.mean - p.mean) / p.standard_deviation).square()
    return 0.5 * (ratio + distance - 1 - ratio.log())


def kl_from_standard(q: Gaussian) -> Tensor:
    """KL(q || N(0, I)) in nats of every dimension, as `kl_divergence` gives it in half the operations."""
    variance = q.standard_deviation.square()
    return 0.5 * (variance + q.mean.square() - 1 - variance.log())


def log_density(value: Tensor, gaussian: Gaussian) -> Tensor:
    """log N(value; mean, standard_deviation^2) in nats, for every element: no axis is summed."""
    distance = ((value - gaussian.mean) / gaussian.standard_deviation).square()
    return -0.5 * (distance + math.log(2 * math.pi)) - gaussian.standard_deviation.log()


def product(experts: Gaussian, present: Tensor) -> Gaussian:
    """Normalised product of the present experts: precisions add, means average by precision (arXiv:1802.05335, eq. 4).

    experts: (M, ..., Z) twice. present: (M, ...) bool; an absent expert has precision 0, as if it were not there.
    Returns (..., Z) twice. At least one expert is present everywhere: the caller passes the prior as expert 0, N(0, I)
    in the VAE, p(z_t | h_t) in the VRNN.
    """
    precision = torch.where(present.unsqueeze(-1), experts.standard_deviation.square().reciprocal(), 0.0)
    total = precision.sum(dim=0)
    return Gaussian((experts.mean * precision).sum(dim=0) / total, total.rsqrt())
