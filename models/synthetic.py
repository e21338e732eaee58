"""Synthetic data of two modalities whose relation is known: spirals (sequences) and quadratic-sinusoidal (samples)."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

TRAINING, TEST = 0, 2
MDMM_TRAINING_FRACTION = 0.6


class Generated(NamedTuple):
    """A data set.

    values: name -> (N, *shape), or (N, T, *shape) for sequences. splits: (N,) of 0 (training), 1 (validation) and 2
    (test); None if the recipe holds out nothing.
    """

    values: Mapping[str, NDArray[np.float32]]
    kind: Literal["static", "sequence"]
    splits: NDArray[np.uint8] | None = None


def generate(name: str, parameters: Mapping[str, Any], seed: int) -> Generated:
    """The data set of this name. Raises KeyError for an unknown name, TypeError for unknown parameters."""
    if name == "mdmm_spirals":
        return mdmm_spirals(**parameters, seed=seed)
    if name == "spirals":
        return Generated(spirals(**parameters, seed=seed), "sequence")
    if name == "quadratic_sinusoidal":
        return Generated(quadratic_sinusoidal(**parameters, seed=seed), "static")
    raise KeyError(name)


def spirals(rows: int, steps: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Noisy spirals and their linear images, m1 and m2 of shape (rows, steps, 2).

    m1 = A t (cos t, sin t) + n for t from 0 to 4 pi, A ~ U(0.5, 1.5); m2 = m1 [[.5, -.5], [.5, .5]] + n, each
    n ~ N(0, 0.25^2). No predictor of m2 from m1 has a squared error below 0.0625.
    """
    generator = np.random.default_rng(seed)
    time = np.linspace(0, 4 * np.pi, steps)
    circle = np.stack([np.cos(time), np.sin(time)], axis=-1) * time[:, None]  # (T, 2)
    amplitude = generator.uniform(0.5, 1.5, size=(rows, 1, 1))
    first = amplitude * circle + generator.normal(scale=0.25, size=(rows, steps, 2))
    mixing = np.array([[0.5, -0.5], [0.5, 0.5]])
    second = first @ mixing + generator.normal(scale=0.25, size=first.shape)
    return {"m1": first.astype(np.float32), "m2": second.astype(np.float32)}


def quadratic_sinusoidal(rows: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """A noisy parabola and a curve made of it, m1 and m2 of shape (rows, 2).

    m1 = (x1, x1^2 + n), x1 evenly spaced from -1 to 1; m2 = (y1 + n, sin(2 pi x1) + y1 / 2 + n), each n ~ N(0, 0.1^2).
    The best squared error of m2 from m1 is 0.010, of m1 from m2 about 0.051.
    """
    generator = np.random.default_rng(seed)
    noise = generator.normal(scale=0.1, size=(3, rows))
    x1 = np.linspace(-1, 1, rows)
    y1 = x1**2 + noise[0]
    first = np.stack([x1, y1], axis=-1)
    second = np.stack([y1 + noise[1], np.sin(2 * np.pi * x1) + y1 / 2 + noise[2]], axis=-1)
    return {"m1": first.astype(np.float32), "m2": second.astype(np.float32)}


def mdmm_spirals(rows: int = 1000, steps: int = 100, seed: int = 1) -> Generated:
    """The spirals of the multimodal deep Markov model (Zhi-Xuan et al., AAAI 2020): noisy x and y of (rows, steps).

    Half of them turn clockwise, half counterclockwise; radius, angle and stretch differ, and each coordinate has noise
    of N(0, 0.1^2). A shuffle by the seed chooses 60 % for training. NumPy's older generator draws the same numbers as
    for the published sequences.
    """
    generator = np.random.RandomState(seed)
    order = list(range(rows))
    generator.shuffle(order)
    values = {name: np.zeros((rows, steps), np.float32) for name in ("x", "y")}
    for row in range(rows):
        direction = 1 if 2 * row >= rows else -1
        u = generator.random_sample(5)
        radius = np.linspace(0.25 + 0.5 * u[0], 2.25 + 0.5 * u[1], steps)
        angle = np.linspace(direction * np.pi * u[2], direction * (np.pi * u[3] + 4 * np.pi), steps)
        stretch = np.sqrt(2.0 ** (2 * u[4] - 1))
        values["x"][row] = stretch * radius * np.cos(angle) + 0.1 * generator.standard_normal(steps)
        values["y"][row] = radius * np.sin(angle) / stretch + 0.1 * generator.standard_normal(steps)
    splits = np.full(rows, TEST, np.uint8)
    splits[order[: int(rows * MDMM_TRAINING_FRACTION)]] = TRAINING
    return Generated(values, "sequence", splits)
