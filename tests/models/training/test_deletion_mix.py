"""Mixes of deletions: each family hides what it says, as often as it says."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.batch import Batch
from models.config import DeletionMix
from models.ops.philox import Draws
from models.training.deletion_mix import deletion_mix
from tests.models.small import sequence_batch

ROWS, STEPS = 4000, 20
NAMES = ["audio", "face", "word"]
NOTHING = dict.fromkeys(("nothing", "steps", "bursts", "future", "past", "windows", "modalities", "more_steps"), 0.0)


def _kept(rows: int = ROWS, names: list[str] = NAMES, length: int = STEPS, **weights: float) -> Tensor:
    """(B, M, T): what stays of sequences that have everything."""
    valid = (torch.arange(STEPS) < length).expand(rows, STEPS)
    batch = Batch({}, dict.fromkeys(names, valid), torch.full((rows,), length))
    config = DeletionMix.model_validate(NOTHING | weights)
    present = deletion_mix(batch, config, Draws(0, 0, 4), np.arange(rows)).present
    return torch.stack([present[name] for name in names], dim=1)


def _runs(kept: Tensor) -> Tensor:
    """How many runs of kept steps each modality has: (B, M)."""
    before = torch.nn.functional.pad(kept[..., :-1], (1, 0))
    return (kept & ~before).sum(dim=-1)


def test_the_family_nothing_hides_no_values() -> None:
    assert _kept(nothing=1).all()


def test_random_steps_vanish_at_every_rate_up_to_nine_tenths() -> None:
    rate = 1 - _kept(steps=1).float().mean(dim=2)
    assert rate.mean().item() == pytest.approx(0.45, abs=0.01)
    assert rate.quantile(0.95) > 0.8
    assert rate.quantile(0.05) < 0.1
    rates = rate.T
    assert (torch.corrcoef(rates) - torch.eye(3)).abs().max() < 0.06  # of each modality its own


def test_a_burst_is_one_gap_of_up_to_six_tenths_in_each_modality() -> None:
    hidden = ~_kept(bursts=1)
    assert (_runs(hidden) <= 1).all()
    lengths = hidden.sum(dim=2).float()
    assert lengths.max() <= 0.6 * STEPS + 1
    assert lengths.mean().item() == pytest.approx(0.3 * STEPS, abs=0.3)


def test_the_future_ends_all_modalities_at_the_same_step() -> None:
    kept = _kept(future=1)
    assert (kept == kept[:, :1]).all()
    assert kept[..., 0].all()
    assert (kept.int().diff(dim=2) <= 0).all()
    lengths = kept[:, 0].sum(dim=1)
    assert lengths.min() >= 0.3 * STEPS
    assert lengths.unique().numel() >= 0.65 * STEPS


def test_the_past_begins_all_modalities_at_the_same_step() -> None:
    kept = _kept(past=1)
    assert (kept == kept[:, :1]).all()
    assert kept[..., -1].all()
    assert (kept.int().diff(dim=2) >= 0).all()
    assert kept[:, 0].sum(dim=1).min() >= 0.3 * STEPS - 1


def test_windows_leave_some_modalities_whole_and_a_part_of_the_others() -> None:
    kept = _kept(windows=1)
    whole = kept.all(dim=2)
    assert whole.any(dim=1).all()
    assert (_runs(kept) <= 1).all()
    parts = kept[~whole]
    opened = parts[parts.any(dim=1)]
    first, last = opened[:, 0].float().mean().item(), opened[:, -1].float().mean().item()
    assert first == pytest.approx(0.5, abs=0.05)
    assert last == pytest.approx(0.25, abs=0.05)


def test_whole_modalities_are_hidden_and_at_least_one_is_kept() -> None:
    kept = _kept(modalities=1)
    assert (kept.all(dim=2) | ~kept.any(dim=2)).all()
    some = kept.any(dim=2)
    assert some.any(dim=1).all()
    assert not some.all(dim=1).any()


def test_more_steps_vanish_beside_all_that() -> None:
    rate = 1 - _kept(nothing=1, more_steps=1.0).float().mean().item()
    assert rate == pytest.approx(0.25, abs=0.01)


def test_families_are_drawn_in_proportion_to_their_weights() -> None:
    kept = _kept(nothing=3, past=1)
    assert kept.flatten(1).all(dim=1).float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_a_single_modality_is_never_hidden_completely() -> None:
    assert _kept(names=["audio"], modalities=1).all()
    assert _kept(names=["audio"], windows=1).all()


def test_lengths_are_the_sequence_s_own() -> None:
    kept = _kept(length=10, past=1)[:, 0, :10].sum(dim=1)
    assert kept.min() >= 2
    assert kept.max() == 9


def test_the_mask_of_a_row_does_not_depend_on_its_batch_and_padding() -> None:
    draws = Draws(0, 0, 4)
    batch = sequence_batch((5, 3, 4))
    whole = deletion_mix(batch, DeletionMix(), draws, np.array([4, 9, 2]))
    alone = Batch(
        {name: value[1:2, :3] for name, value in batch.values.items()},
        {name: mask[1:2, :3] for name, mask in batch.present.items()},
        torch.tensor([3]),
    )
    single = deletion_mix(alone, DeletionMix(), draws, np.array([9]))
    for name, mask in single.present.items():
        assert torch.equal(mask[0], whole.present[name][1, :3])


def test_absent_values_stay_absent() -> None:
    batch = sequence_batch((5, 3, 4))
    left = deletion_mix(batch, DeletionMix(), Draws(0, 0, 4), np.arange(3))
    for name, mask in left.present.items():
        assert not (mask & ~batch.present[name]).any()


def test_a_number_that_float32_would_round_to_1_takes_the_last_family() -> None:
    noise_seed = int(np.random.SeedSequence(0).generate_state(5)[3])  # of a training with seed 0
    batch = sequence_batch((48,))
    left = deletion_mix(batch, DeletionMix(), Draws(noise_seed, 177, 4), np.array([60]))
    hidden = [name for name, mask in left.present.items() if not mask.any()]
    assert len(hidden) in (1, 2)  # a whole modality at least, and never all three


def test_a_mix_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="all weights are 0"):
        DeletionMix.model_validate(NOTHING)
