"""Each warning stands for one thing, and is given from its bound on."""

from typing import Any

import pytest

from models.training.evaluation import warnings


def _types(found: warnings.Warnings) -> list[str]:
    return [warning["type"] for warning in found]


def _entry(observed: str, target: str, error: float | None = 0.5, values: int = 40) -> dict[str, Any]:
    return {"observed": [observed], "target": target, "error": error, "baseline_error": 1.0, "values": values}


@pytest.mark.parametrize(
    ("kls", "active", "collapsed"),
    [
        ([2.0, 0.0], [True, False], False),
        ([0.009, 0.009], [True, True], True),
        ([0.009, 0.01], [True, True], False),
        ([2.0, 2.0], [False, False], True),
    ],
)
def test_a_posterior_has_collapsed_if_no_feature_has_divergence_or_varies(
    kls: list[float], active: list[bool], collapsed: bool
) -> None:
    features = [{"kl": kl, "active": varies} for kl, varies in zip(kls, active, strict=True)]
    found = warnings.of_latent(features, None)
    assert _types(found) == ["posterior_collapse"] * collapsed
    if collapsed:
        assert f"{sum(active)} of 2 latent features are active" in found[0]["message"]


def test_a_modality_dominates_above_nine_tenths_of_the_precision_beside_others() -> None:
    features = [{"kl": 1.0, "active": True}]
    assert _types(warnings.of_latent(features, {"a": 0.9, "b": 0.05})) == []
    (found,) = warnings.of_latent(features, {"a": 0.91, "b": 0.05})
    assert found["type"] == "dominant_modality"
    assert "modality 'a' has 91% of the joint precision" in found["message"]
    assert _types(warnings.of_latent(features, {"a": 0.99})) == []


@pytest.mark.parametrize(
    ("split", "count", "expected"),
    [("validation", 30, []), ("test", 29, ["few_rows"]), ("training", 500, ["no_validation"])],
)
def test_rows_are_few_below_thirty_and_training_rows_are_not_held_out(
    split: str, count: int, expected: list[str]
) -> None:
    assert _types(warnings.of_rows([_entry("a", "a")], split, count)) == expected


def test_a_target_is_not_evaluated_if_no_entry_has_its_values() -> None:
    entries = [_entry("a", "b", None, 0), _entry("b", "b", None, 0), _entry("a", "a"), _entry("b", "a", None, 0)]
    (found,) = warnings.of_rows(entries, "test", 40)
    assert found["type"] == "not_evaluated"
    assert "none of the 40 test rows looked at has 'b'" in found["message"]


def test_predictions_of_other_modalities_that_are_no_better_than_a_constant_are_listed() -> None:
    entries = [_entry("a", "b", 1.0), _entry("b", "a", 0.99), _entry("a", "a", 2.0)]
    (found,) = warnings.of_baselines(entries, [])
    assert found["type"] == "no_better_than_baseline"
    assert (
        "these: 'b' from 'a' with an error of 1, the training rows' mean or most frequent category with 1;"
        in (found["message"])
    )


def test_the_better_of_both_baselines_counts() -> None:
    entries = [_entry("a", "b") | {"linear_error": 0.5}, _entry("b", "a") | {"linear_error": 0.51}]
    (found,) = warnings.of_baselines(entries, [])
    assert "these: 'b' from 'a' with an error of 0.5, a linear prediction with 0.5;" in found["message"]


def test_gaps_are_compared_with_the_best_of_line_last_value_and_constant() -> None:
    errors = {"error": 0.5, "baseline_error": 1.0, "last_value_error": 0.6}
    gaps = [
        {"target": "a", "pattern": "scattered", **errors, "interpolation_error": 0.5},
        {"target": "b", "pattern": "stretch", **errors, "interpolation_error": None},
    ]
    (found,) = warnings.of_baselines([], gaps)
    assert (
        "these: 'a' at scattered steps with an error of 0.5, a straight line over the gap with 0.5;" in found["message"]
    )
    assert warnings.of_baselines([], gaps[1:]) == []


@pytest.mark.parametrize(("validation_loss", "expected"), [(15.0, []), (15.1, ["overfitting"])])
def test_a_model_overfits_above_a_nat_per_value(validation_loss: float, expected: list[str]) -> None:
    metrics = {"loss": 5.0, "validation_loss": validation_loss}
    assert _types(warnings.of_metrics(metrics, values_per_row=10.0)) == expected


def test_without_held_out_rows_overfitting_is_unknown() -> None:
    assert warnings.of_metrics({"loss": 5.0}, values_per_row=1.0) == []
