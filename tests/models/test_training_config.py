"""How a training does not fit its model and dataset: each fault is found, once, in its place."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.config import IndependentDropout, NumberDropout, SubsetDropout, TrainingConfig
from models.config.training import metric_names, misfits
from tests.models.small import sequence_config, static_config


def _found(training: dict[str, Any], rows: int = 100, kind: str = "static") -> list[tuple[tuple[str | int, ...], str]]:
    config = static_config() if kind == "static" else sequence_config()
    return [tuple(found) for found in misfits(TrainingConfig.model_validate(training), config, rows)]


def test_the_defaults_fit() -> None:
    assert _found({}) == []
    assert _found({"burst_deletion": {}}, kind="sequence") == []


@pytest.mark.parametrize(
    ("training", "place", "detail"),
    [
        ({"modality_weights": {"smell": 2.0}}, ("modality_weights", "smell"), "no modality 'smell'"),
        (
            {"modality_dropout": {"strategy": "independent", "probabilities": {"audio": 0.1, "smell": 0.5}}},
            ("modality_dropout", "smell"),
            "only audio, face, word",
        ),
        ({"burst_deletion": {"probability": 0.1}}, ("burst_deletion",), "samples have no time steps"),
        ({"validation_rows": [1, 100, 7]}, ("validation_rows",), "has row 100, the dataset has rows 0 to 99"),
        ({"early_stopping": {"metric": "validation_accuracy"}}, ("early_stopping", "metric"), "no metric"),
        ({"early_stopping": {}, "validation_fraction": 0}, ("early_stopping", "metric"), "'validation_loss'"),
        ({"select_metric": "reconstruction/smell"}, ("select_metric",), "reconstruction/smell"),
        ({"batch_size": 91}, ("batch_size",), "100 rows, 90 of them for training (10 are held out)"),
        ({"batch_size": 99, "validation_rows": [3, 5]}, ("batch_size",), "98 of them"),
    ],
)
def test_each_fault_is_found_once_in_its_place(training: dict[str, Any], place: tuple[str, ...], detail: str) -> None:
    [(where, what)] = _found(training)
    assert where == place
    assert detail in what


def test_all_faults_are_found_together() -> None:
    training = {
        "modality_weights": {"smell": 1.0, "taste": 1.0},
        "burst_deletion": {},
        "validation_rows": [500],
        "select_metric": "accuracy",
        "batch_size": 1000,
    }
    assert [place for place, _ in _found(training)] == [
        ("modality_weights", "smell"),
        ("modality_weights", "taste"),
        ("burst_deletion",),
        ("validation_rows",),
        ("select_metric",),
        ("batch_size",),
    ]


def test_unused_fields_may_have_any_value() -> None:
    assert _found({"select_metric": "accuracy", "validation_fraction": 0}) == []
    assert _found({"modality_weights": "auto"}) == []


def test_metrics_are_those_of_an_epoch() -> None:
    assert metric_names(["a"], holds_out=False) == ["loss", "kl", "reconstruction/a"]
    assert metric_names(["a"], holds_out=True)[3:] == [
        "validation_loss",
        "validation_kl",
        "validation_reconstruction/a",
        "validation_profile",
    ]
    for metric in metric_names(["audio", "face", "word"], holds_out=True):
        assert _found({"early_stopping": {"metric": metric}, "select_metric": metric}) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.3, SubsetDropout(probability=0.3)),
        (1, SubsetDropout(probability=1.0)),
        ({"strategy": "number", "probability": 0.3}, NumberDropout(probability=0.3)),
        (
            {"strategy": "independent", "probabilities": {"a": 0.1}},
            IndependentDropout(probabilities={"a": 0.1}),
        ),
        (NumberDropout(probability=0.2), NumberDropout(probability=0.2)),
    ],
)
def test_dropout_can_be_a_number_alone(given: object, expected: object) -> None:
    training = TrainingConfig.model_validate({"modality_dropout": given})
    assert training.modality_dropout == expected
    assert TrainingConfig.model_validate(training.model_dump(mode="json")) == training


@pytest.mark.parametrize(
    "training",
    [
        {"modality_dropout": 1.5},
        {"modality_dropout": True},
        {"modality_dropout": {"probability": 0.3}},  # of which strategy?
        {"modality_dropout": {"strategy": "independent", "probabilities": {}}},
        {"modality_weights": {"a": 0.0}},
        {"objective": {"name": "iwae", "particles": 0}},
        {"beta": {"schedule": "constant", "value": float("inf")}},
        {"free_bits": -0.1},
        {"learning_rate": 0},
        {"burst_deletion": {"longest": 0}},
    ],
)
def test_values_out_of_range_are_refused(training: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate(training)


def test_whether_rows_are_held_out() -> None:
    assert TrainingConfig().holds_out
    assert not TrainingConfig(validation_fraction=0).holds_out
    assert not TrainingConfig(validation_rows=()).holds_out
    assert TrainingConfig(validation_rows=(0,), validation_fraction=0).holds_out
