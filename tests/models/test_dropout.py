"""Modality dropout: which subsets stay, how often, and that targets are not touched."""

import torch

from models.batch import Batch
from models.dropout import modality_dropout
from tests.models.small import sequence_batch, static_batch

ROWS = 30_000


def _masks(probability: float, has: list[bool]) -> torch.Tensor:
    batch = static_batch(ROWS)
    present = {name: torch.full((ROWS,), here) for name, here in zip(batch.present, has, strict=True)}
    dropped = modality_dropout(Batch(batch.values, present), probability, torch.Generator().manual_seed(0))
    return torch.stack(list(dropped.present.values()))


def test_probability_0_hides_nothing_and_1_hides_something_of_every_row() -> None:
    assert _masks(0.0, [True] * 3).all()
    kept = _masks(1.0, [True] * 3).sum(dim=0)
    assert kept.min() == 1
    assert kept.max() == 2


def test_incomplete_subsets_are_equally_likely() -> None:
    masks = _masks(1.0, [True] * 3)
    codes = (masks * torch.tensor([[1], [2], [4]])).sum(dim=0)
    counts = torch.bincount(codes, minlength=8)
    assert counts[0] == 0
    assert counts[7] == 0
    assert (counts[1:7] / ROWS - 1 / 6).abs().max() < 0.01


def test_half_the_rows_lose_something_at_one_half() -> None:
    incomplete = ~_masks(0.5, [True] * 3).all(dim=0)
    assert abs(incomplete.float().mean().item() - 0.5) < 0.015


def test_what_a_row_lacks_never_appears_and_its_last_modality_stays() -> None:
    masks = _masks(1.0, [False, True, False])
    assert masks[1].all()
    assert not masks[[0, 2]].any()
    two = _masks(1.0, [True, False, True])
    assert (two.sum(dim=0) == 1).all()


def test_the_targets_stay() -> None:
    batch = static_batch()
    before = {name: mask.clone() for name, mask in batch.present.items()}
    hidden = modality_dropout(batch, 1.0, torch.Generator().manual_seed(0))
    assert hidden.present["audio"].data_ptr() != batch.present["audio"].data_ptr()
    for name, mask in before.items():
        assert torch.equal(batch.present[name], mask)


def test_a_sequence_loses_a_modality_at_all_of_its_steps() -> None:
    batch = sequence_batch((5, 3, 4))
    hidden = modality_dropout(batch, 1.0, torch.Generator().manual_seed(0))
    for name, mask in hidden.present.items():
        for row in range(3):
            assert torch.equal(mask[row], batch.present[name][row]) or not mask[row].any()
