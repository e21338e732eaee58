"""Synthetic data of two modalities whose relation is known: spirals (sequences) and quadratic-sinusoidal (samples)."""

import numpy as np
from numpy.typing import NDArray


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

    m1 = (x1, x1^2 + n), x1 evenly from -1 to 1; m2 = (y1 + n, sin(2 pi x1) + y1 / 2 + n), each n ~ N(0, 0.1^2).
    The best squared error of m2 from m1 is 0.010, of m1 from m2 about 0.051.
    """
    generator = np.random.default_rng(seed)
    noise = generator.normal(scale=0.1, size=(3, rows))
    x1 = np.linspace(-1, 1, rows)
    y1 = x1**2 + noise[0]
    first = np.stack([x1, y1], axis=-1)
    second = np.stack([y1 + noise[1], np.sin(2 * np.pi * x1) + y1 / 2 + noise[2]], axis=-1)
    return {"m1": first.astype(np.float32), "m2": second.astype(np.float32)}
