"""Modality dropout: which subsets stay, how often, and that targets are not touched."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from models.batch import Batch
from models.config import IndependentDropout, NumberDropout, SubsetDropout
from models.ops.philox import Draws
from models.training.masking import modality_dropout, random_subset
from tests.models.small import sequence_batch, static_batch

ROWS = 30_000
NUMBERS = np.arange(ROWS)
NAMES = ["audio", "face", "word"]
EVERY = (
    SubsetDropout(probability=1.0),
    NumberDropout(probability=1.0),
    IndependentDropout(probabilities={"audio": 0.9, "face": 0.9, "word": 0.9}),
)

Dropout = SubsetDropout | NumberDropout | IndependentDropout


def _draws(seed: int = 0) -> Draws:
    return Draws(seed, step=0, stream=1)


def _masks(config: Dropout, has: Sequence[bool] = (True, True, True)) -> torch.Tensor:
    """(M, B): what stays of rows that have these modalities."""
    batch = static_batch(ROWS)
    present = {name: torch.full((ROWS,), here) for name, here in zip(NAMES, has, strict=True)}
    dropped = modality_dropout(Batch(batch.values, present), config, _draws(), NUMBERS)
    return torch.stack([dropped.present[name] for name in NAMES])


def _shares(masks: torch.Tensor) -> torch.Tensor:
    """How often each of the 8 subsets stays; bit m of its number is modality m."""
    codes = (masks * torch.tensor([[1], [2], [4]])).sum(dim=0)
    return torch.bincount(codes, minlength=8) / ROWS


@pytest.mark.parametrize("kind", [SubsetDropout, NumberDropout])
def test_probability_0_hides_nothing_and_1_hides_something_of_every_row(kind: type[Dropout]) -> None:
    assert _masks(kind.model_validate({"probability": 0.0})).all()
    kept = _masks(kind.model_validate({"probability": 1.0})).sum(dim=0)
    assert kept.min() == 1
    assert kept.max() == 2


def test_incomplete_subsets_are_equally_likely() -> None:
    shares = _shares(_masks(SubsetDropout(probability=1.0)))
    torch.testing.assert_close(shares, torch.tensor([0, 1, 1, 1, 1, 1, 1, 0]) / 6, atol=0.01, rtol=0)


def test_numbers_of_hidden_modalities_are_equally_likely_and_so_are_those_of_one_number() -> None:
    five = NumberDropout(probability=1.0)
    present = {name: torch.ones(ROWS, dtype=torch.bool) for name in "abcde"}
    kept = torch.stack(list(modality_dropout(Batch({}, present), five, _draws(), NUMBERS).present.values()))
    counts = torch.bincount(kept.sum(dim=0), minlength=6) / ROWS
    torch.testing.assert_close(counts, torch.tensor([0, 1, 1, 1, 1, 0]) / 4, atol=0.01, rtol=0)
    for number in range(1, 5):
        of_number = kept[:, kept.sum(dim=0) == number].float().mean(dim=1)
        torch.testing.assert_close(of_number, torch.full((5,), number / 5), atol=0.025, rtol=0)


def test_independent_dropout_hides_each_by_its_own_probability_and_one_stays_of_all() -> None:
    hides = torch.tensor([0.2, 0.7, 0.0])
    config = IndependentDropout(probabilities={"audio": 0.2, "face": 0.7})
    torch.testing.assert_close(1 - _masks(config).float().mean(dim=1), hides, atol=0.01, rtol=0)
    two = _shares(_masks(config, [True, True, False]))
    # both hidden in 0.14 of the rows: then either stays, equally likely
    expected = torch.tensor([0, 0.8 * 0.7 + 0.07, 0.2 * 0.3 + 0.07, 0.8 * 0.3, 0, 0, 0, 0])
    torch.testing.assert_close(two, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", [SubsetDropout, NumberDropout])
def test_half_the_rows_lose_something_at_one_half(kind: type[Dropout]) -> None:
    incomplete = ~_masks(kind.model_validate({"probability": 0.5})).all(dim=0)
    assert abs(incomplete.float().mean().item() - 0.5) < 0.015


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.strategy)
def test_what_a_row_lacks_never_appears_and_its_last_modality_stays(config: Dropout) -> None:
    masks = _masks(config, [False, True, False])
    assert masks[1].all()
    assert not masks[[0, 2]].any()
    assert _masks(config, [True, False, True]).any(dim=0).all()
    assert not _masks(config, [False, False, False]).any()


@pytest.mark.parametrize("config", EVERY[:2], ids=lambda config: config.strategy)
def test_one_of_two_stays(config: Dropout) -> None:
    assert (_masks(config, [True, False, True]).sum(dim=0) == 1).all()


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.strategy)
def test_the_order_of_the_dict_changes_nothing(config: Dropout) -> None:
    batch = static_batch()
    backwards = Batch(
        {name: batch.values[name] for name in reversed(NAMES)}, {name: batch.present[name] for name in reversed(NAMES)}
    )
    one, other = (modality_dropout(given, config, _draws(), NUMBERS[:6]) for given in (batch, backwards))
    for name in NAMES:
        assert torch.equal(one.present[name], other.present[name])


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.strategy)
def test_the_mask_of_a_row_does_not_depend_on_its_batch(config: Dropout) -> None:
    rows = np.array([7, 2, 11])
    some = modality_dropout(static_batch(3), config, _draws(), rows)
    for name in NAMES:
        of_all = modality_dropout(static_batch(12), config, _draws(), NUMBERS[:12]).present[name]
        assert torch.equal(some.present[name], of_all[torch.from_numpy(rows)])


def test_the_targets_stay() -> None:
    batch = static_batch()
    before = {name: mask.clone() for name, mask in batch.present.items()}
    hidden = modality_dropout(batch, SubsetDropout(probability=1.0), _draws(), NUMBERS[:6])
    assert hidden.present["audio"].data_ptr() != batch.present["audio"].data_ptr()
    for name, mask in before.items():
        assert torch.equal(batch.present[name], mask)


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.strategy)
def test_a_sequence_loses_a_modality_at_all_of_its_steps(config: Dropout) -> None:
    batch = sequence_batch((5, 3, 4))
    hidden = modality_dropout(batch, config, _draws(), NUMBERS[:3])
    for name, mask in hidden.present.items():
        for row in range(3):
            assert torch.equal(mask[row], batch.present[name][row]) or not mask[row].any()


def test_of_many_modalities_each_stays_as_often_as_not() -> None:
    has = torch.ones(60, 3000, dtype=torch.bool)
    chance = Draws(0, 0, 1).uniform(np.arange(3000), 61).T
    kept = random_subset(has, chance[0], chance[1:]).double()
    assert (kept.mean(dim=1) - 0.5).abs().max() < 0.05
    assert np.abs(np.corrcoef(kept.numpy()) - np.eye(60)).max() < 0.1
