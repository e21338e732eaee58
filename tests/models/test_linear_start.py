"""The regression that the flow over codes starts at."""

import pytest
import torch

from models.linear_start import Given, LinearStart

NOISE = torch.tensor([0.05, 0.05, 0.01, 0.01])
# u = A e: two features of a code, two values that are parts of it, three other numbers
MIXING = torch.randn(7, 7, generator=torch.Generator().manual_seed(1)).tril() + 2 * torch.eye(7)


def _joint(rows: int) -> torch.Tensor:
    found = torch.randn(rows, 7, generator=torch.Generator().manual_seed(2)) @ MIXING.T
    return found / MIXING.square().sum(dim=1).sqrt()


def _fitted(rows: int) -> tuple[LinearStart, torch.Tensor]:
    start, joint = LinearStart(values=2, others=3, noise=NOISE), _joint(rows)
    start.fit(joint[:, :4], joint[:, 2:])
    return start, joint


@pytest.mark.parametrize("known", [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1]])
def test_it_is_the_conditional_distribution_of_a_gaussian(known: list[int]) -> None:
    """Bishop (2006), equations 2.81 and 2.82."""
    start, joint = _fitted(200_000)
    covariance = MIXING @ MIXING.T
    scale = covariance.diagonal().sqrt()
    covariance = covariance / scale / scale.unsqueeze(1)
    has = torch.tensor(known, dtype=torch.bool)
    given = torch.arange(2, 7)[has]
    weight = covariance[:4, given] @ torch.linalg.inv(covariance[given][:, given])
    left = covariance[:4, :4] - weight @ covariance[given, :4] + NOISE.square().diag()
    found = start(Given(joint[:5, 2:], has.expand(5, 5)))
    torch.testing.assert_close(found.mean, joint[:5, given] @ weight.T, atol=0.03, rtol=0)
    (factor,) = found.factor
    torch.testing.assert_close(factor @ factor.T, left, atol=0.02, rtol=0)


def test_rows_have_the_distributions_of_their_own_patterns() -> None:
    start, joint = _fitted(500)
    known = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    found = start(Given(joint[:4, 2:], known))
    assert len(found.factor) == 3
    alone = [start(Given(joint[row : row + 1, 2:], known[row : row + 1])) for row in range(4)]
    torch.testing.assert_close(found.mean, torch.cat([one.mean for one in alone]))
    deviates = torch.randn(6, 4, 4)
    codes = found.codes(deviates)
    for row, one in enumerate(alone):
        torch.testing.assert_close(codes[:, row : row + 1], one.codes(deviates[:, row : row + 1]))
    torch.testing.assert_close(found.deviates(codes[0]), deviates[0], atol=1e-3, rtol=1e-3)


def test_unknown_numbers_do_not_matter() -> None:
    start, joint = _fitted(500)
    known = torch.tensor([[True, False, True, False, True]])
    numbers = joint[:1, 2:]
    changed = torch.where(known, numbers, torch.nan)
    assert torch.equal(start(Given(numbers, known)).mean, start(Given(changed, known)).mean)


def test_few_rows_shrink_the_correlations() -> None:
    start, _ = _fitted(12)
    apart = ~torch.eye(7, dtype=torch.bool)
    sample = torch.corrcoef(_joint(12).T)
    assert start.covariance[apart].abs().sum() < 0.9 * sample[apart].abs().sum()
    known = torch.ones(1, 5, dtype=torch.bool)
    assert start(Given(_joint(1)[:, 2:], known)).factor.isfinite().all()


def test_a_fit_or_loaded_numbers_replace_what_was_kept_of_patterns() -> None:
    start, joint = _fitted(500)
    given = Given(joint[:3, 2:], torch.ones(3, 5, dtype=torch.bool))
    before = start(given).mean
    other = LinearStart(values=2, others=3, noise=NOISE)
    assert not other(given).mean[:, :2].any()
    other.load_state_dict(start.state_dict())
    assert torch.equal(other(given).mean, before)
    other.fit(joint[:50, :4], joint[:50, 2:])
    assert not torch.equal(other(given).mean, before)
