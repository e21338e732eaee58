"""The evaluation: right figures, every subset, and warnings for what is wrong."""

import math

import numpy as np
import pytest
import torch

from models.architectures import build
from models.config import MMVAEOptions, ModalityConfig, TrainingConfig, complete
from models.synthetic import quadratic_sinusoidal
from models.training import data
from models.training.dataset import Dataset
from models.training.evaluate import evaluate
from models.training.evaluation.matrix import observed_subsets
from models.training.events import Finished
from models.training.loop import fit
from tests.models.training.small import sequences, static, two


def test_all_subsets_of_few_modalities_and_selected_ones_of_many() -> None:
    assert len(observed_subsets("abcd")) == 15
    many = observed_subsets("abcdef")
    assert [len(subset) for subset in many] == [1] * 6 + [5] * 6 + [6]
    assert observed_subsets("a") == [("a",)]


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_the_error_is_that_of_the_posterior_mean_in_the_user_s_units(kind: str) -> None:
    rows = static(scale=50.0) if kind == "static" else sequences()
    torch.manual_seed(0)
    model = build(two(kind))
    train, held_out = np.arange(20, rows.rows), np.arange(20)
    model.set_statistics(data.statistics(rows, model, train))
    found = evaluate(model, rows, train, held_out, seed=0)
    assert found["rows"] == {"split": "validation", "count": 20}
    entry = next(e for e in found["matrix"] if e["observed"] == ["m1"] and e["target"] == "m2")

    both = held_out[data.rows_with_all(rows, ["m1"])[held_out]]
    batch = data.batch_of(rows, both)
    shown = type(batch)({"m1": batch.values["m1"]}, {"m1": batch.present["m1"]}, batch.lengths)
    with torch.no_grad():
        predicted = model.reconstruct(shown, ["m2"], None)["m2"]["mean"]
    wrong = (predicted - batch.values["m2"])[batch.present["m2"]].square().mean().sqrt()
    assert entry["error"] == pytest.approx(wrong.item(), rel=1e-4)
    places = train if kind == "static" else np.arange(20 * 6, rows.rows * 6)
    given = rows.values["m2"][places][rows.present["m2"][places]]
    blank = np.sqrt(np.square(batch.values["m2"][batch.present["m2"]].numpy() - given.mean(axis=0)).mean())
    assert entry["baseline_error"] == pytest.approx(float(blank), rel=1e-4)
    assert entry["values"] == int(batch.present["m2"].sum())


def test_a_trained_model_beats_the_mean_and_its_bounds_are_in_order() -> None:
    *_, last = fit(two(), static(400), TrainingConfig(epochs=30, batch_size=20), seed=0)
    assert isinstance(last, Finished)
    found = evaluate(last.model, static(400), last.train_rows, last.validation_rows, seed=0)
    assert len(found["matrix"]) == 6
    for entry in found["matrix"]:
        assert entry["error"] < entry["baseline_error"]
        assert 0.5 < entry["coverage_90"] <= 1
        assert math.isfinite(entry["log_likelihood"])
    assert found["iwae_64"] > found["elbo"]
    assert found["active_units"] == sum(feature["active"] for feature in found["latent"])
    assert set(found["expert_shares"]) == {"m1", "m2"}
    assert found["warnings"] == []


def test_a_category_is_counted_wrong_or_right_beside_the_most_frequent() -> None:
    values = {"x": quadratic_sinusoidal(60, seed=0)["m1"], "label": np.array([0, 1, 1] * 20)}
    rows = Dataset.from_arrays(values)
    config = complete(
        MMVAEOptions(),
        [
            ModalityConfig(name="x", shape=(2,), likelihood="gaussian"),
            ModalityConfig(name="label", categories=2, likelihood="categorical"),
        ],
    )
    found = evaluate(build(config), rows, np.arange(60), np.arange(0), seed=0)
    entry = next(e for e in found["matrix"] if e["observed"] == ["x"] and e["target"] == "label")
    assert entry["metric"] == "error_rate"
    assert entry["baseline_error"] == pytest.approx(1 / 3)
    assert entry["coverage_90"] is None
    assert "no_validation" in [warning["type"] for warning in found["warnings"]]


def test_a_collapsed_posterior_and_a_dominant_modality_give_warnings() -> None:
    model = build(two())
    with torch.no_grad():
        for encoder in model.encoders:
            encoder[-1].weight.zero_()
            encoder[-1].bias.zero_()
            encoder[-1].bias[model.latent_features :] = 8.0  # deviations of 8: nothing is said
    found = evaluate(model, static(), np.arange(50), np.arange(50, 100), seed=0)
    assert [warning["type"] for warning in found["warnings"]] == ["posterior_collapse", "no_better_than_baseline"]
    with torch.no_grad():
        model.encoders[0][-1].bias[model.latent_features :] = -4.0
    found = evaluate(model, static(), np.arange(50), np.arange(50, 100), seed=0)
    assert "dominant_modality" in [warning["type"] for warning in found["warnings"]]


def test_few_rows_and_a_model_that_overfits_are_warned_of() -> None:
    rows, held_out = static(), np.arange(90, 100)
    values = data.observed_values_per_row(rows)
    for more, expected in ((0.9 * values, False), (1.1 * values, True)):
        metrics = {"loss": 5.0, "validation_loss": 5.0 + more}
        found = evaluate(build(two()), rows, np.arange(90), held_out, seed=0, metrics=metrics)
        types = [warning["type"] for warning in found["warnings"]]
        assert "few_rows" in types
        assert ("overfitting" in types) == expected


def test_a_target_that_never_occurs_with_the_observed_modalities_has_no_figures() -> None:
    rows = static()
    rows.present["m1"][:] = np.arange(100) < 50
    rows.present["m2"][:] = np.arange(100) >= 50
    found = evaluate(build(two()), rows, np.arange(100), np.arange(0), seed=0)
    entry = next(e for e in found["matrix"] if e["observed"] == ["m1"] and e["target"] == "m2")
    assert entry["values"] == 0
    assert entry["error"] is None
