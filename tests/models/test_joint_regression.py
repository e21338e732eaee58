"""The regression of unknown numbers: least squares for every set of known numbers."""

import numpy as np
import torch

from models.joint_regression import JointRegression
from models.linear_start import Given

EVERY = slice(0, 5)


def _numbers(rows: int) -> torch.Tensor:
    random = np.random.default_rng(0)
    mixed = random.standard_normal((rows, 5)) @ random.standard_normal((5, 5)) * [1, 10, 0.1, 1, 1] + 3
    return torch.from_numpy(mixed.astype(np.float32))


def test_it_is_least_squares_whatever_is_known() -> None:
    numbers, regression = _numbers(200), JointRegression(5)
    regression.fit(numbers)
    known = torch.zeros(200, 5, dtype=torch.bool)
    known[:100, [0, 2]], known[100:, [1, 3, 4]] = True, True
    found = regression(Given(torch.where(known, numbers, torch.nan), known), EVERY).double()
    for rows, given in ((slice(0, 100), [0, 2]), (slice(100, 200), [1, 3, 4])):
        unknown = [column for column in range(5) if column not in given]
        x = np.c_[np.ones(200), numbers[:, given]].astype(np.float64)
        expected = x[rows] @ np.linalg.lstsq(x, numbers[:, unknown].double().numpy(), rcond=None)[0]
        np.testing.assert_allclose(found[rows][:, unknown], expected, rtol=3e-3, atol=3e-3)
        torch.testing.assert_close(found[rows][:, given].float(), numbers[rows][:, given])


def test_nothing_known_and_all_correlations_taken_away_give_the_mean() -> None:
    numbers, regression = _numbers(50), JointRegression(5)
    regression.fit(numbers)
    regression.shrinkage.fill_(1.0)
    known = torch.zeros(2, 5, dtype=torch.bool)
    known[1, 0] = True
    found = regression(Given(numbers[:2], known), EVERY)
    torch.testing.assert_close(found[0], numbers.mean(dim=0))
    torch.testing.assert_close(found[1, 1:], numbers.mean(dim=0)[1:])


def test_numbers_that_are_always_the_same_do_no_harm() -> None:
    numbers, regression = _numbers(50), JointRegression(5)
    numbers[:, 1] = 4.0
    regression.fit(numbers)
    known = torch.ones(1, 5, dtype=torch.bool)
    known[0, 0] = False
    assert regression(Given(numbers[:1], known), EVERY).isfinite().all()


def test_a_thousand_numbers_of_few_rows_have_an_answer() -> None:
    random = torch.Generator().manual_seed(0)
    common = torch.randn(300, 3, generator=random)
    numbers = common @ torch.randn(3, 1000, generator=random) + 1e-3 * torch.randn(300, 1000, generator=random)
    regression = JointRegression(1000)
    regression.fit(numbers)
    known = torch.ones(300, 1000, dtype=torch.bool)
    known[:, :10] = False
    found = regression(Given(numbers, known), slice(0, 10))
    assert (found - numbers[:, :10]).square().mean() < 1e-3
