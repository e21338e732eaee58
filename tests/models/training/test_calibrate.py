"""Calibration: nine of ten errors of missing numbers lie within the interval, whatever the model said before."""

from typing import Any

import numpy as np
import pytest
import torch

from models.batch import Batch
from models.config import MMVAEConfig, ModalityConfig
from models.likelihoods.continuous import Continuous
from models.likelihoods.widening import INTERVAL
from models.mmvae import MMVAE
from models.training.calibrate import calibrate
from models.training.data import Rows
from models.training.dataset import Dataset

ROWS = 3000


def _model() -> MMVAE:
    modalities = (
        ModalityConfig(name="a", shape=(2,), likelihood="gaussian"),
        ModalityConfig(name="b", likelihood="laplace"),
        ModalityConfig(name="c", categories=3, likelihood="categorical"),
    )
    torch.manual_seed(0)
    return MMVAE(MMVAEConfig(modalities=modalities, latent_features=2)).eval()


def _samples(rows: int = ROWS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    spread = np.array([0.1, 5.0])
    return {
        "a": (spread * random.standard_normal((rows, 2))).astype(np.float32),
        "b": random.standard_normal(rows).astype(np.float32),
        "c": random.integers(0, 3, rows),
    }


def _without(*names: str) -> Any:
    def hide(targets: Batch, rows: Rows, number: int = 0) -> Batch:
        present = {n: mask & (n not in names) for n, mask in targets.present.items()}
        return Batch(targets.values, present, targets.lengths)

    return hide


def _coverage(model: MMVAE, draws: int) -> dict[str, torch.Tensor]:
    values = {name: torch.from_numpy(value) for name, value in _samples().items()}
    present = {name: torch.ones(ROWS, dtype=torch.bool) for name in values}
    inputs = _without("a", "b")(Batch(values, present), np.arange(ROWS))
    noise = torch.randn(draws, ROWS, 2, generator=torch.Generator().manual_seed(1)) if draws else None
    with torch.no_grad():
        found = model.reconstruct(inputs, ["a", "b"], noise)
    return {
        name: ((values[name] - of["mean"]).abs() <= INTERVAL * of["standard_deviation"]).float().mean(dim=0)
        for name, of in found.items()
    }


@pytest.mark.parametrize("draws", [0, 16])
def test_nine_of_ten_missing_numbers_lie_inside_feature_by_feature(draws: int) -> None:
    model = _model()
    assert (_coverage(model, draws)["a"] - 0.9).abs().max() > 0.05
    calibrate(model, Dataset.from_arrays(_samples()), np.arange(ROWS), _without("a", "b"), seed=0)
    for covered in _coverage(model, draws).values():
        torch.testing.assert_close(covered, torch.full_like(covered, 0.9), atol=0.02, rtol=0)


def test_a_given_deviation_is_kept_and_means_do_not_change() -> None:
    model = _model()
    values = {name: torch.from_numpy(value[:5]) for name, value in _samples().items()}
    inputs = Batch(values, {name: torch.ones(5, dtype=torch.bool) for name in values})
    with torch.no_grad():
        before = model.reconstruct(inputs, ["a", "c"], None)
        calibrate(model, Dataset.from_arrays(_samples()), np.arange(ROWS), _without("a"), seed=0)
        after = model.reconstruct(inputs, ["a", "c"], None)
    torch.testing.assert_close(before, after)


def test_too_few_errors_leave_everything_as_it_was() -> None:
    model = _model()
    samples = Dataset.from_arrays(_samples(20))
    calibrate(model, samples, np.arange(20), _without("a"), seed=0)
    calibrate(model, samples, np.arange(0), _without("a"), seed=0)
    for likelihood in model.likelihoods:
        if isinstance(likelihood, Continuous):
            assert not likelihood.widening.logarithm.any()
