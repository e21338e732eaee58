"""Burst deletion: how long, where, and of which modalities."""

import numpy as np
import torch

from models.batch import Batch
from models.config import BurstDeletion
from models.ops.philox import Draws
from models.training.masking import burst_deletion
from tests.models.small import sequence_batch

ROWS = 20_000
NAMES = ["audio", "face", "word"]


def _long(rows: int, steps: int, length: int) -> Batch:
    valid = (torch.arange(steps) < length).expand(rows, steps)
    return Batch({}, dict.fromkeys(NAMES, valid), torch.full((rows,), length))


def _hidden(config: BurstDeletion, batch: Batch) -> torch.Tensor:
    """(M, B, T): what the burst hides."""
    kept = burst_deletion(batch, config, Draws(0, 0, 2), np.arange(batch.rows)).present
    return torch.stack([batch.present[name] & ~kept[name] for name in NAMES])


def test_a_burst_is_consecutive_uniformly_long_and_anywhere_in_its_sequence() -> None:
    hidden = _hidden(BurstDeletion(probability=1.0, longest=0.4), _long(ROWS, 12, 10)).flatten(0, 1).int()
    assert not hidden[:, 10:].any()
    beginnings = hidden.diff(dim=1, prepend=torch.zeros(len(hidden), 1)).eq(1)
    assert (beginnings.sum(dim=1) == 1).all()
    lengths = torch.bincount(hidden.sum(dim=1)) / len(hidden)
    torch.testing.assert_close(lengths, torch.tensor([0, 1, 1, 1, 1]) / 4, atol=0.01, rtol=0)
    for length in range(1, 5):
        starts = beginnings[hidden.sum(dim=1) == length].float().mean(dim=0)
        places = 10 - length + 1
        torch.testing.assert_close(starts[:places], torch.full((places,), 1 / places), atol=0.015, rtol=0)


def test_each_modality_has_its_own_burst_by_the_probability() -> None:
    bursts = _hidden(BurstDeletion(probability=0.3, longest=0.2), _long(ROWS, 10, 10)).any(dim=2).float()
    torch.testing.assert_close(bursts.mean(dim=1), torch.full((3,), 0.3), atol=0.01, rtol=0)
    assert (torch.corrcoef(bursts) - torch.eye(3)).abs().max() < 0.03
    assert not _hidden(BurstDeletion(probability=0.0), _long(100, 10, 10)).any()


def test_the_shortest_burst_is_one_step_even_of_a_short_sequence() -> None:
    hidden = _hidden(BurstDeletion(probability=1.0, longest=0.01), _long(50, 3, 2))
    assert (hidden.sum(dim=2) == 1).all()


def test_a_burst_may_take_the_whole_sequence() -> None:
    counts = _hidden(BurstDeletion(probability=1.0, longest=1.0), _long(500, 4, 4)).sum(dim=2)
    assert counts.unique().tolist() == [1, 2, 3, 4]


def test_the_mask_of_a_row_does_not_depend_on_its_batch_and_padding() -> None:
    config, draws = BurstDeletion(probability=0.8, longest=0.7), Draws(0, 0, 2)
    batch = sequence_batch((5, 3, 4))
    whole = burst_deletion(batch, config, draws, np.array([4, 9, 2]))
    alone = Batch({}, {name: batch.present[name][1:2, :3] for name in reversed(NAMES)}, torch.tensor([3]))
    kept = burst_deletion(alone, config, draws, np.array([9]))
    for name in NAMES:
        assert torch.equal(kept.present[name][0], whole.present[name][1, :3])


def test_targets_are_kept_and_absent_values_never_appear() -> None:
    batch = sequence_batch((5, 3))
    before = {name: mask.clone() for name, mask in batch.present.items()}
    kept = burst_deletion(batch, BurstDeletion(probability=1.0, longest=0.5), Draws(0, 0, 2), np.arange(2))
    for name in NAMES:
        assert torch.equal(batch.present[name], before[name])
        assert not (kept.present[name] & ~before[name]).any()
        # half of 5 steps and of 3, rounded down: bursts of 1 or 2 steps, and of 1
        lost = before[name].sum(dim=1) - kept.present[name].sum(dim=1)
        assert lost[0] in (1, 2)
        assert lost[1] == 1
