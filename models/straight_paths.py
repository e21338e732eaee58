"""Flow matching along straight paths (arXiv:2210.02747, section 4.1): what the flows over codes share.

A code z_1 and noise z_0 from N(0, I) give a path z_t = (1 - t) z_0 + t z_1, whose velocity is z_1 - z_0. A network
learns the mean velocity at (z_t, t) among all rows that share the given values c, and following it from noise ends at a
draw from p(z | c).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Sines and cosines of the time, and the frequency of the fastest.
TIME_FEATURES = 8
MAX_FREQUENCY = 8.0


def frequencies() -> Tensor:
    """The frequencies of `clock`: (TIME_FEATURES,)."""
    return torch.linspace(0, math.log(MAX_FREQUENCY), TIME_FEATURES).exp()


def clock(time: Tensor, frequencies: Tensor) -> Tensor:
    """Features of a time in [0, 1]: (..., 1) -> (..., 2 TIME_FEATURES)."""
    angles = 2 * math.pi * time * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def alone(codes: Tensor, time: Tensor) -> Tensor:
    """The velocity where the codes are standard normal and nothing is given; a network learns what differs."""
    return (2 * time - 1) / (time.square() + (1 - time).square()) * codes


def follow(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """The ends of the paths that begin at `noise`, (..., Z): the midpoint rule, two evaluations a step.

    velocity: of codes (..., Z) at a time that broadcasts to (..., 1).
    """
    codes, length = noise, 1 / steps
    for step in range(steps):
        start = torch.full((1,), step * length, dtype=noise.dtype, device=noise.device)
        half = codes + length / 2 * velocity(codes, start)
        codes = codes + length * velocity(half, start + length / 2)
    return codes
