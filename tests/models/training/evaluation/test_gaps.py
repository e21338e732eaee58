"""Errors in gaps of sequences: of a model, and of what needs no model."""

from typing import Any, Literal

import numpy as np
import pytest
import torch

from models.architectures import build
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.training.dataset import Dataset
from models.training.evaluation.baseline import baselines
from models.training.evaluation.gaps import gaps, interpolated

ROWS, STEPS = 60, 24
SMALL = MLPConfig(hidden_features=(4,))
X = ModalityConfig(name="x", shape=(1,), likelihood="gaussian")
WORD = ModalityConfig(name="word", categories=3, likelihood="categorical")


def test_lines_go_through_the_known_values_of_each_element() -> None:
    generator = np.random.default_rng(0)
    value = generator.normal(size=(5, 12, 3))
    known = generator.random((5, 12, 3)) < 0.4
    known[0, :, 0] = False
    constant = np.array([7.0, 8.0, 9.0])
    found = interpolated(torch.from_numpy(value), torch.from_numpy(known), torch.from_numpy(constant)).numpy()
    steps = np.arange(12)
    for row, element in np.ndindex(5, 3):
        there = known[row, :, element]
        expected = (
            np.interp(steps, steps[there], value[row, there, element])
            if there.any()
            else np.full(12, constant[element])
        )
        np.testing.assert_allclose(found[row, :, element], expected, rtol=1e-6)


def _dataset() -> Dataset:
    """Straight lines with one slope for each row, and a word that stays the same."""
    generator = np.random.default_rng(1)
    slopes, words = generator.normal(size=(ROWS, 1)), generator.integers(0, 3, ROWS)
    lines = slopes * np.arange(STEPS)
    return Dataset.from_arrays({"x": lines[..., None], "word": words[:, None].repeat(STEPS, 1)}, kind="sequence")


def _found(inference: Literal["filter", "smooth"]) -> dict[tuple[str, str], dict[str, Any]]:
    config = MMVRNNConfig(modalities=(X, WORD), latent_features=2, network=SMALL, inference=inference)
    model = build(config).eval()
    rows = np.arange(ROWS)
    constants = baselines(_dataset(), model, rows[30:])
    with torch.no_grad():
        return {(one["target"], one["pattern"]): one for one in gaps(model, _dataset(), rows[:30], constants, seed=0)}


def test_a_line_over_a_gap_of_a_line_is_exact_and_the_last_value_is_not() -> None:
    found = _found("smooth")
    assert found.keys() == {(name, pattern) for name in ("x", "word") for pattern in ("scattered", "stretch")}
    stretch = found["x", "stretch"]
    assert stretch["values"] == 30 * STEPS // 4
    assert 0 < stretch["last_value_error"] < stretch["baseline_error"]
    assert 0.35 < found["x", "scattered"]["values"] / (30 * STEPS) < 0.65
    # a gap at the end of a sequence has no value after it
    assert found["x", "scattered"]["interpolation_error"] < 0.5 * found["x", "scattered"]["last_value_error"]
    assert found["word", "scattered"]["last_value_error"] < 0.1 < found["word", "scattered"]["baseline_error"]
    assert found["word", "scattered"]["interpolation_error"] is None
    assert all(0 <= one["coverage_90"] <= 1 for one in found.values() if one["target"] == "x")


def test_a_model_that_filters_is_not_compared_with_what_sees_the_end_of_a_gap() -> None:
    found = _found("filter")
    assert all(one["interpolation_error"] is None for one in found.values())
    assert all(one["last_value_error"] is not None for one in found.values())


def test_samples_have_no_gaps() -> None:
    model = build(MMVAEConfig(modalities=(X,), latent_features=2, network=SMALL))
    assert gaps(model, Dataset.from_arrays({"x": np.zeros((4, 1))}), np.arange(2), {}, seed=0) == []


@pytest.mark.parametrize("rows", [1, 30])
def test_a_row_has_the_same_gaps_in_any_batch(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    whole = _found("smooth")
    torch.manual_seed(0)
    monkeypatch.setattr("models.training.evaluation.rows.MAX_NUMBERS_AT_ONCE", 16 * STEPS * 128 * rows)
    assert _found("smooth")["x", "stretch"] == pytest.approx(whole["x", "stretch"])
