"""Imputation: given values stay, missing ones have a value inside the support and a calibrated interval."""

import numpy as np
import pytest
import torch
from scipy import stats

import models
from models.batch import BatchError
from models.config import ModalityConfig
from models.config.calibrations import CALIBRATIONS
from models.likelihoods.continuous import Continuous
from models.multimodal import Multimodal
from models.predictor import Predictor
from tests.models.small import MODALITIES, sequence_model, static_model

KINDS = (
    ModalityConfig(name="count", shape=(2,), likelihood="poisson"),
    ModalityConfig(name="heavy", shape=(2,), likelihood="laplace"),
    ModalityConfig(name="number", shape=(3,), likelihood="gaussian"),
    ModalityConfig(name="word", categories=4, likelihood="categorical"),
)
BOTH = pytest.mark.parametrize("model", [static_model(), static_model(expert="mixture"), sequence_model()])
ALL_KINDS = pytest.mark.parametrize("model", [static_model(KINDS), sequence_model(KINDS)])
Arrays = dict[str, np.ndarray]


def given(model: Multimodal) -> tuple[Arrays, Arrays, np.ndarray | None]:
    """Values of some places for a model of either kind; the first modality is missing everywhere."""
    random = np.random.default_rng(1)
    leading = (4,) if model.config.kind == "static" else (4, 5)
    values, present = {}, {}
    for modality in model.modalities[1:]:
        shape = (*leading, *modality.shape)
        numbers = random.poisson(3, shape) if modality.support.whole else random.normal(size=shape)
        values[modality.name] = random.integers(0, 4, shape) if modality.categories else numbers.astype(np.float32)
        present[modality.name] = random.random(leading) < 0.6
    if len(leading) == 1:
        return values, present, None
    lengths = np.array([5, 3, 4, 1])
    inside = np.arange(5) < lengths[:, None]
    return values, {name: mask & inside for name, mask in present.items()}, lengths


@BOTH
def test_given_values_stay_and_the_others_are_predicted(model: Multimodal) -> None:
    predictor = Predictor(model)
    random = np.random.default_rng(1)
    leading = (4,) if model.config.kind == "static" else (4, 5)
    values = {"audio": random.normal(size=(*leading, 3)).astype(np.float32), "word": random.integers(0, 4, leading)}
    present = {name: random.random(leading) < 0.6 for name in values}
    completed = predictor.impute(values, present)["completed"]
    predicted = predictor.reconstruct(values, present, None, [modality.name for modality in MODALITIES])
    assert completed.keys() == {"audio", "face", "word"}
    for name, key in [("audio", "mean"), ("word", "category")]:
        value, mask = completed[name]["value"], present[name]
        np.testing.assert_array_equal(value[mask], values[name][mask])
        np.testing.assert_array_equal(value[~mask], predicted[name][key][~mask])
    np.testing.assert_array_equal(completed["face"]["value"], predicted["face"]["probability"].round())
    assert completed["word"]["value"].dtype == np.int64
    for name, outputs in predicted.items():
        for part, array in outputs.items():
            np.testing.assert_array_equal(completed[name][part], array)


@ALL_KINDS
def test_completed_values_are_inside_the_support(model: Multimodal) -> None:
    completed = Predictor(model).impute(*given(model))["completed"]
    for modality in model.modalities:
        assert modality.support.contains(completed[modality.name]["value"]).all()


@ALL_KINDS
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_are_quantiles_and_end_at_given_values(model: Multimodal, level: float) -> None:
    values, present, lengths = given(model)
    completed = Predictor(model).impute(values, present, lengths, level=level)["completed"]
    tail = (1 - level) / 2
    assert "lower" not in completed["word"]
    for name, family in [("number", stats.norm), ("heavy", stats.laplace)]:
        mask, found = present[name], completed[name]
        for part, chance in [("lower", tail), ("upper", 1 - tail)]:
            np.testing.assert_array_equal(found[part][mask], values[name][mask])
            standard = family.ppf(chance) / family.std()
            expected = found["mean"] + standard * found["standard_deviation"]
            np.testing.assert_allclose(found[part][~mask], expected[~mask], rtol=1e-4, atol=1e-5)
    count = completed["count"]
    for part, chance in [("lower", tail), ("upper", 1 - tail)]:
        np.testing.assert_array_equal(count[part], stats.poisson.ppf(chance, count["rate"]))


def test_only_the_targets_are_completed() -> None:
    model = static_model(KINDS)
    values, present, lengths = given(model)
    answer = Predictor(model).impute(values, present, lengths, targets=["word", "count"])
    assert list(answer["completed"]) == ["word", "count"]


@ALL_KINDS
def test_the_calibration_is_that_of_the_least_fitted_target(model: Multimodal) -> None:
    question = given(model)
    predictor = Predictor(model)

    def word(*targets: str) -> set[str]:
        return {CALIBRATIONS[number] for number in predictor.impute(*question, targets=targets)["calibration"]}

    assert word("number") == word("word") == {"none"}
    number = model.likelihood("number")
    assert isinstance(number, Continuous)
    torch.manual_seed(0)
    deviation = torch.rand(2, 400, 3) + 0.5
    number.calibrate(deviation, deviation * torch.randn(2, 400, 3).abs(), torch.arange(400) % 2 + 1)
    assert word("number") == word("number", "word") == {"pooled"}
    assert word("number", "heavy") == word("count") == {"none"}
    for buffer in number.widening.buffers():
        buffer.zero_()


@BOTH
def test_draws_need_a_conditional_part(model: Multimodal) -> None:
    leading = (2,) if model.config.kind == "static" else (2, 3)
    values, present = {"word": np.zeros(leading, int)}, {"word": np.ones(leading, bool)}
    with pytest.raises(models.NoConditional, match=r"train one with `architecture\.conditional`"):
        Predictor(model).impute(values, present, draws=1)


@pytest.mark.parametrize("wrong", [{"level": 0.0}, {"level": 1.0}, {"level": float("nan")}, {"draws": -1}])
def test_wrong_levels_and_draws_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BatchError, match=r"draws is .* and level .*, expected"):
        Predictor(static_model()).impute({"word": np.zeros(1, int)}, {"word": np.ones(1, bool)}, **wrong)  # type: ignore[arg-type]


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(BatchError, match="smell"):
        Predictor(static_model()).impute({"word": np.zeros(1, int)}, {"word": np.ones(1, bool)}, targets=["smell"])
