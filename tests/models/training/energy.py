"""The two-sample test of the energy distance."""

import numpy as np


def _energy_distance(left: np.ndarray, right: np.ndarray) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| (Szekely and Rizzo, 2013, doi:10.1016/j.jspi.2013.03.018)."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a[:, None] - b[None], axis=-1).mean())

    return 2 * mean(left, right) - mean(left, left) - mean(right, right)


def p_value(left: np.ndarray, right: np.ndarray, permutations: int = 200) -> float:
    """That both are drawn from one distribution, by the permutation test of the energy distance."""
    random, both, own = np.random.default_rng(0), np.concatenate([left, right]), _energy_distance(left, right)
    larger = 0
    for _ in range(permutations):
        order = random.permutation(both)
        larger += _energy_distance(order[: len(left)], order[len(left) :]) >= own
    return (larger + 1) / (permutations + 1)
