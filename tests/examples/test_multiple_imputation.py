"""The example of multiple imputation: its statistics agree with other sources, and it runs against a service."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

from examples.multiple_imputation import NAMES, TRUTH, bootstrap, simulated
from examples.rubin import Fitted, pool, regression

ROOT = Path(__file__).parent.parent.parent


def test_a_regression_agrees_with_scipy() -> None:
    random = np.random.default_rng(0)
    column = random.normal(size=40)
    outcome = 2 * column + random.normal(size=40)
    found, expected = regression(outcome, column), linregress(column, outcome)
    assert found.estimate == pytest.approx([expected.intercept, expected.slope])
    assert np.sqrt(found.variance) == pytest.approx([expected.intercept_stderr, expected.stderr])
    assert found.degrees == 38


def test_tables_are_pooled_by_rubin_s_rules() -> None:
    """Q = 2, U = 1, B = 1, T = 1 + 4/3, lambda = 4/7; the degrees of freedom by Barnard and Rubin's equations."""
    pooled = pool([Fitted(np.array([estimate]), np.array([1.0]), 18.0) for estimate in (1.0, 2.0, 3.0)])
    assert pooled.fitted.estimate == pytest.approx(2)
    assert pooled.fitted.variance == pytest.approx(7 / 3)
    assert pooled.missing_information == pytest.approx(4 / 7)
    old, observed = 2 / (4 / 7) ** 2, 19 / 21 * 18 * 3 / 7
    assert pooled.fitted.degrees == pytest.approx(old * observed / (old + observed))
    low, high = pooled.fitted.interval(0.95)
    half = student.ppf(0.975, old * observed / (old + observed)) * np.sqrt(7 / 3)
    assert (low, high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_equal_tables_have_no_missing_information() -> None:
    pooled = pool([Fitted(np.array([1.0, 2.0]), np.array([0.5, 0.25]), 50.0)] * 4)
    assert pooled.fitted.variance == pytest.approx([0.5, 0.25])
    assert pooled.missing_information == pytest.approx([0, 0])
    assert pooled.fitted.degrees == pytest.approx(51 / 53 * 50)


def test_simulated_people_have_the_true_coefficients_and_complete_rows_do_not() -> None:
    study = simulated(200_000, seed=0)
    assert study.regression(study.laboratory).estimate == pytest.approx(TRUTH, abs=0.02)
    complete = study.regression(study.laboratory, study.has_laboratory).estimate
    assert TRUTH[2] - complete[2] > 0.05
    assert study.has_laboratory.mean() == pytest.approx(0.62, abs=0.02)


def test_a_bootstrap_sample_is_followed_by_rows_that_it_lacks() -> None:
    rows, held_out = bootstrap(100, seed=0)
    assert set(rows[list(held_out)]).isdisjoint(rows[:100])
    assert held_out == tuple(range(100, len(rows)))


@pytest.mark.slow
def test_the_example_runs_against_a_service(tmp_path: Path) -> None:
    choices = "--rows 200 --tables 2 --epochs 5 --steps 60"
    command = [sys.executable, "-m", "service.cli", "serve", "--home", str(tmp_path / "home"), "--port", "0", "--fresh"]
    program = f"{sys.executable} -m examples.multiple_imputation {choices}"
    done = subprocess.run(
        [*command, "--run", program], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, true in zip(NAMES, TRUTH, strict=True):
        interval = r"-?\d\.\d\d \(-?\d\.\d\d to -?\d\.\d\d\)"
        assert re.search(rf"{name} +│ +{true:.2f} +│ {interval} +│ {interval} +│ \d\.\d\d", done.stdout), done.stdout
