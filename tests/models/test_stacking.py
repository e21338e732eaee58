"""The weights of the three predictions, and which modalities the regression takes."""

import pytest
import torch

from models.config import ModalityConfig
from models.draw_calibration import MIN_ROWS
from models.stacking import MAX_FEATURES, TOGETHER, Products, Stacking, best_weights

A, B = (ModalityConfig(name=name, shape=(3,), likelihood="gaussian") for name in ("a", "b"))
WORD = ModalityConfig(name="word", categories=4, likelihood="categorical")


def test_weights_minimise_the_error_without_being_negative() -> None:
    random = torch.Generator().manual_seed(0)
    apart = torch.randn(3, 500, generator=random, dtype=torch.float64)
    apart[2] = apart[0] + 0.5 * apart[1]  # adds nothing
    found = best_weights(apart @ apart.T)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    steps = torch.linspace(0, 1, 51, dtype=torch.float64)
    grid = [torch.stack([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1]
    least = min(float((each @ apart).square().sum()) for each in grid)
    assert float((found @ apart).square().sum()) <= least * (1 + 1e-6)


def test_equal_predictions_and_no_errors_give_weights_of_sum_one() -> None:
    for errors in (torch.ones(3, 3), torch.zeros(3, 3)):
        found = best_weights(errors)
        assert found.isfinite().all()
        assert found.sum() == pytest.approx(1)


def test_patterns_with_few_rows_share_the_weights_of_all() -> None:
    stacking = Stacking([A, B])
    own, other = torch.diag(torch.tensor([1.0, 1e6, 1e6])), torch.diag(torch.tensor([1e6, 1e6, 1.0]))
    stacking.set_weights("a", {0: Products(own, MIN_ROWS), 2: Products(1e3 * other, MIN_ROWS - 1)}, 2 * MIN_ROWS)
    whole = torch.zeros(2, dtype=torch.bool)
    found = stacking.weights("a", torch.tensor([0, 2]), whole)
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1], stacking.weight[0, TOGETHER])
    assert stacking.weights("b", torch.tensor([1]), whole[:1]).tolist() == [[1, 0, 0]]


def test_a_modality_that_is_given_in_part_has_weights_of_its_own() -> None:
    stacking = Stacking([A, B])
    stacking.set_weights("a", {0: Products(torch.diag(torch.tensor([1.0, 1e6, 1e6])), MIN_ROWS)}, MIN_ROWS)
    stacking.set_weights_in_part("a", Products(torch.diag(torch.tensor([1e6, 1e6, 1.0])), MIN_ROWS))
    found = stacking.weights("a", torch.tensor([1, 0]), torch.tensor([True, False]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0, 1], [1, 0, 0]]), rtol=0, atol=1e-4)


def test_the_regression_takes_the_smallest_modalities() -> None:
    wide = ModalityConfig(name="wide", shape=(MAX_FEATURES - 6,), likelihood="gaussian")
    stacking = Stacking([wide, A, WORD])
    assert {name: place.stop - place.start for name, place in stacking.places.items()} == {"a": 3, "word": 4}
    assert list(Stacking([wide]).places) == ["wide"]
