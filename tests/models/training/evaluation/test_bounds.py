"""Bounds on the evidence, of a model whose evidence has a closed form."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from models.architectures import build
from models.training.evaluation.bounds import PARTICLES, bounds
from tests.models.training.evaluation import exact
from tests.models.training.small import sequences, static, two


def test_both_bounds_of_an_exact_posterior_are_the_evidence() -> None:
    """p(x) = N(OFFSET, DEVIATION^2 + WEIGHT^2). Each particle weighs p(x); the ELBO is of one draw."""
    dataset, rows = exact.dataset(), np.arange(300)
    found = bounds(exact.model(), dataset, rows, seed=0)
    evidence = norm(exact.OFFSET, math.hypot(exact.DEVIATION, exact.WEIGHT)).logpdf(dataset.values["x"][rows, 0])
    assert found[f"iwae_{PARTICLES}"] == pytest.approx(evidence.mean(), rel=1e-5)
    assert found["elbo"] == pytest.approx(evidence.mean(), abs=0.15)


def test_a_posterior_that_is_too_wide_lowers_the_elbo_by_its_divergence() -> None:
    """log p(x) - ELBO = KL(q || p(z | x)); the importance weighted bound lies between."""
    model, dataset, rows = exact.model(silent_features=1), exact.dataset(), np.arange(400)
    wide = 0.6
    list(model.encoders[0].parameters())[-1].data[2] = exact.raw_deviation(wide)
    found = bounds(model, dataset, rows, seed=0)
    x = dataset.values["x"][rows, 0].astype(np.float64)
    evidence = norm(exact.OFFSET, math.hypot(exact.DEVIATION, exact.WEIGHT)).logpdf(x).mean()
    precision = 1 + 1 / wide**2
    mean, variance = (x - exact.OFFSET) / exact.WEIGHT / wide**2 / precision, 1 / precision
    apart = np.square(mean - exact.posterior_mean(x[:, None]))
    divergence = 0.5 * (exact.PRECISION * (variance + apart) - 1 - math.log(exact.PRECISION * variance)).mean()
    assert found["elbo"] == pytest.approx(evidence - divergence, abs=0.35)
    assert found["elbo"] < found[f"iwae_{PARTICLES}"] <= evidence + 1e-3


@pytest.mark.parametrize("options", [{"expert": "mixture"}, {"expert": "mixture_of_products"}])
def test_the_bounds_of_a_mixture_do_not_depend_on_the_size_of_batches(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset, rows = build(two(**options)).eval(), static(), np.arange(20)
    expected = bounds(model, dataset, rows, seed=2)
    monkeypatch.setattr("models.training.evaluation.rows.MAX_NUMBERS_AT_ONCE", 1)
    assert bounds(model, dataset, rows, seed=2) == pytest.approx(expected, rel=1e-5)


def test_the_bounds_of_sequences_are_per_sequence() -> None:
    """Of two sequences together the mean of those of each alone."""
    model, dataset = build(two("sequence")).eval(), sequences()
    both = bounds(model, dataset, np.arange(2), seed=0)
    alone = [bounds(model, dataset, np.array([row]), seed=0) for row in (0, 1)]
    for name, value in both.items():
        assert value == pytest.approx(np.mean([one[name] for one in alone]), rel=1e-5)
