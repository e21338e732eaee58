"""Batches that are read ahead are the batches that are read one by one."""

import numpy as np
import pytest
import torch

from models.architectures import build
from models.config import TrainingConfig
from models.training import prefetch
from models.training.distributed import Group
from models.training.prefetch import Prefetch, Prefetched
from tests.models.training.small import sequences, static, two

BATCHES = [np.array([5, 3, 8]), np.array([0, 1]), np.array([30, 7])]


def _read(kind: str, **training: object) -> list[Prefetched]:
    dataset = static() if kind == "static" else sequences()
    config = TrainingConfig.model_validate({"batch_size": 3, **training})
    read = Prefetch(dataset, build(two(kind)), config, Group(), torch.device("cpu"), seed=4)
    return list(read(BATCHES, first_step=17))


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_values_masks_and_noise_do_not_depend_on_how_many_batches_are_read_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = _read(kind)
    monkeypatch.setattr(prefetch, "MAX_NUMBERS", 1)
    for batch, alone, rows in zip(together, _read(kind), BATCHES, strict=True):
        assert np.array_equal(batch.rows, rows)
        assert batch.batch_rows == len(rows)
        assert batch.drawn is not None
        assert alone.drawn is not None
        assert torch.equal(batch.drawn.noise, alone.drawn.noise)
        for name in ("m1", "m2"):
            assert torch.equal(batch.targets.values[name], alone.targets.values[name])
            assert torch.equal(batch.targets.present[name], alone.targets.present[name])
            assert torch.equal(batch.drawn.inputs.present[name], alone.drawn.inputs.present[name])


def test_objectives_that_draw_by_themselves_get_no_masks() -> None:
    assert all(batch.drawn is None for batch in _read("static", objective={"name": "iwae"}))
