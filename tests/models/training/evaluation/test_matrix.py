"""Errors of each target given each subset, of a model that predicts a constant."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from models.config import MLPConfig, MMVAEConfig, ModalityConfig
from models.mmvae import MMVAE
from models.multimodal import Parts
from models.training.dataset import Dataset
from models.training.evaluation.baseline import baselines
from models.training.evaluation.matrix import matrix

X = ModalityConfig(name="x", shape=(2,), likelihood="gaussian", scale=2.0)
WORD = ModalityConfig(name="word", categories=3, likelihood="categorical")
CONSTANT, SCORES = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0, 1.0])


class Constant(nn.Module):
    """The same parameters for every code."""

    def __init__(self, parameters: torch.Tensor) -> None:
        super().__init__()
        self.constant = nn.Parameter(parameters)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return self.constant.expand(len(code), -1)


def _model() -> MMVAE:
    decoders = {"x": Constant(CONSTANT), "word": Constant(SCORES)}
    config = MMVAEConfig(modalities=(X, WORD), latent_features=2, network=MLPConfig(hidden_features=(4,)))
    return MMVAE(config, Parts(decoders=decoders)).eval()


def _dataset() -> Dataset:
    """Row 5 lacks x, row 6 lacks the word."""
    generator = np.random.default_rng(0)
    values = {"x": 3 * generator.normal(size=(40, 2)), "word": generator.integers(0, 3, 40)}
    present = {"x": np.arange(40) != 5, "word": np.arange(40) != 6}
    return Dataset.from_arrays(values, present=present)


def _entries(model: MMVAE, dataset: Dataset) -> list[dict[str, Any]]:
    """The figures of rows 0 to 19, with baselines of the others."""
    train = np.arange(20, 40)
    return matrix(model, dataset, np.arange(20), train, baselines(dataset, model, train), seed=0)


def test_each_figure_has_its_closed_form() -> None:
    dataset, rows, train = _dataset(), np.arange(20), np.arange(20, 40)
    entries = {(*one["observed"], "->", one["target"]): one for one in _entries(_model(), dataset)}
    assert len(entries) == 6

    both = np.setdiff1d(rows, [5, 6])
    x, word = dataset.values["x"][both].astype(np.float64), dataset.values["word"][both]
    constant = dataset.values["x"][train].astype(np.float64).mean(axis=0)
    found = entries["word", "->", "x"]
    assert (found["metric"], found["values"]) == ("root_mean_squared_error", 18)
    assert found["error"] == pytest.approx(np.sqrt(np.square(x - CONSTANT.numpy()).mean()), rel=1e-5)
    assert found["baseline_error"] == pytest.approx(np.sqrt(np.square(x - constant).mean()), rel=1e-5)
    assert found["log_likelihood"] == pytest.approx(norm(CONSTANT.numpy(), 2.0).logpdf(x).sum(axis=1).mean(), rel=1e-5)
    assert found["coverage_90"] == pytest.approx((np.abs(x - CONSTANT.numpy()) <= 2 * 1.6448536).mean())

    found = entries["x", "->", "word"]
    assert (found["metric"], found["values"], found["coverage_90"]) == ("error_rate", 18, None)
    assert found["error"] == pytest.approx((word != 1).mean())
    most_frequent = np.bincount(dataset.values["word"][train]).argmax()
    assert found["baseline_error"] == pytest.approx((word != most_frequent).mean())
    assert found["log_likelihood"] == pytest.approx(SCORES.log_softmax(0)[torch.from_numpy(word)].mean().item())

    # a target that is observed itself counts all its rows
    assert entries["x", "->", "x"]["values"] == 19
    assert entries["word", "x", "->", "x"]["values"] == 18


def test_a_target_that_no_row_has_together_with_the_observed_modalities_has_no_figures() -> None:
    dataset = _dataset()
    dataset.present["word"][:] = ~dataset.present["x"]
    entries = _entries(_model(), dataset)
    found = next(one for one in entries if (one["observed"], one["target"]) == (["x"], "word"))
    assert found == {
        "observed": ["x"],
        "target": "word",
        "metric": "error_rate",
        "values": 0,
        "error": None,
        "baseline_error": None,
        "linear_error": None,
        "log_likelihood": None,
        "coverage_90": None,
    }


def test_the_figures_do_not_depend_on_the_size_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = _model(), _dataset()
    expected = _entries(*arguments)
    monkeypatch.setattr("models.training.evaluation.rows.MAX_NUMBERS_AT_ONCE", 1)
    for found, one in zip(_entries(*arguments), expected, strict=True):
        for name in ("error", "baseline_error", "linear_error", "log_likelihood", "coverage_90"):
            assert found[name] == pytest.approx(one[name]), (found["observed"], found["target"], name)
