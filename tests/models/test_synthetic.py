"""The synthetic data are what their descriptions say."""

import numpy as np
import pytest

from models.synthetic import quadratic_sinusoidal, spirals


def test_spirals_have_the_published_variances_and_the_linear_relation() -> None:
    data = spirals(2000, 50, seed=0)
    assert data["m1"].shape == (2000, 50, 2)
    assert data["m1"].dtype == np.float32
    assert data["m1"].var() == pytest.approx(28.3, rel=0.03)
    assert data["m2"].var() == pytest.approx(14.1, rel=0.03)
    residual = data["m2"] - data["m1"] @ np.array([[0.5, -0.5], [0.5, 0.5]])
    assert np.square(residual).mean() == pytest.approx(0.0625, rel=0.02)


def test_quadratic_sinusoidal_data_have_the_published_variances() -> None:
    data = quadratic_sinusoidal(5000, seed=0)
    spread = {name: np.square(value - value.mean(axis=0)).mean() for name, value in data.items()}
    assert spread["m1"] == pytest.approx(0.216, rel=0.03)
    assert spread["m2"] == pytest.approx(0.322, rel=0.03)


def test_the_same_seed_gives_the_same_data() -> None:
    first, again, other = spirals(3, 4, seed=1), spirals(3, 4, seed=1), spirals(3, 4, seed=2)
    np.testing.assert_array_equal(first["m1"], again["m1"])
    assert not np.allclose(first["m1"], other["m1"])
