"""The conditional part: fitted at the end of a training or alone, and the rest of the model stays as it is."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from models import conditional_draws
from models.batch import Batch
from models.config import (
    ConditionalFlowConfig,
    MMVAEConfig,
    MMVRNNConfig,
    ModalityConfig,
    SequenceFlowConfig,
    TrainingConfig,
)
from models.draw_calibration import MIN_ROWS, NONE, PATTERN, POOLED, DrawCalibration, Scores
from models.mmvae import MMVAE
from models.training import conditional, conditional_losses
from models.training.checks import UnusableData
from models.training.dataset import Dataset
from models.training.evaluate import evaluate
from models.training.events import Checkpoint, Conditional, Event, Finished
from models.training.loop import TrainingDiverged, fit
from tests.models.training.energy import p_value
from tests.models.training.small import static, two

FLOW = ConditionalFlowConfig(hidden_features=32, layers=2)
# Without a regression to start from, a flow learns however few rows are held out.
LEARNING = FLOW.model_copy(update={"start": "normal"})
SHORT = TrainingConfig(epochs=2, batch_size=20, conditional_steps=60)


def _finished(events: list[Event]) -> MMVAE:
    last = events[-1]
    assert isinstance(last, Finished)
    assert isinstance(last.model, MMVAE)
    return last.model


def _trained(training: TrainingConfig = SHORT, flow: ConditionalFlowConfig = FLOW, **arguments: Any) -> list[Event]:
    return list(fit(two(conditional=flow), static(), training, seed=0, **arguments))


def _rest(model: MMVAE) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.state_dict().items() if not name.startswith("conditional.")}


def test_a_conditional_part_changes_no_other_weight_and_is_reported() -> None:
    events = _trained(flow=LEARNING)
    plain = _finished(list(fit(two(), static(), SHORT, seed=0)))
    torch.testing.assert_close(_rest(_finished(events)), plain.state_dict(), rtol=0, atol=0)
    assert [event.step for event in events if isinstance(event, Conditional)] == [50, 60]
    assert plain.conditional is None


def test_with_few_held_out_rows_the_conditional_part_is_the_regression() -> None:
    events = _trained()
    assert not any(isinstance(event, Conditional) for event in events)
    flow = _finished(events).conditional
    assert flow is not None
    assert not flow.state_dict()["output.weight"].any()
    assert flow.start is not None
    assert not torch.equal(flow.start.covariance, torch.eye(len(flow.start.covariance)))


def test_the_same_seed_fits_the_same_conditional_part() -> None:
    torch.testing.assert_close(_finished(_trained()).state_dict(), _finished(_trained()).state_dict(), rtol=0, atol=0)


def test_a_conditional_part_is_fitted_to_a_trained_model_alone() -> None:
    trained = _finished(list(fit(two(), static(), SHORT, seed=0)))
    alone = SHORT.model_copy(update={"fit": "conditional"})
    events = _trained(alone, init=trained.state_dict())
    torch.testing.assert_close(_rest(_finished(events)), trained.state_dict(), rtol=0, atol=0)
    again = _finished(_trained(alone, init=_finished(events).state_dict()))
    torch.testing.assert_close(again.state_dict(), _finished(events).state_dict(), rtol=0, atol=0)


def test_a_conditional_part_alone_needs_a_trained_model() -> None:
    with pytest.raises(UnusableData, match="expected the weights of one in `init`"):
        _trained(SHORT.model_copy(update={"fit": "conditional"}))


def test_a_training_stopped_in_its_conditional_part_ends_as_one_that_was_not() -> None:
    whole = _trained(flow=LEARNING)
    reached = 0

    def stops() -> bool:
        nonlocal reached
        reached += 1
        return reached > 2 * 5 + 30  # ten steps of the model, then thirty of the conditional part

    stopped = _trained(flow=LEARNING, should_stop=stops)[-1]
    assert isinstance(stopped, Checkpoint)
    assert stopped.reason == "stopped"
    resumed = _finished(_trained(flow=LEARNING, resume_from=stopped.state))
    torch.testing.assert_close(resumed.state_dict(), _finished(whole).state_dict(), rtol=0, atol=0)


def _fitted_to(model: MMVAE, samples: Dataset, rows: np.ndarray) -> dict[str, Tensor]:
    """The conditional part after a short fit to these rows of the samples, which begins the same for all rows."""
    torch.manual_seed(1)
    model.add_conditional(FLOW)
    list(conditional.fit(model, samples, rows, rows[:0], 20, 0, lambda: False))
    assert model.conditional is not None
    return model.conditional.state_dict()


def test_codes_of_incomplete_rows_are_learned_only_where_few_rows_are_complete() -> None:
    """The code of an incomplete row is a mean: draws that follow it would be too narrow."""
    model, random, rows = _finished(_trained()), np.random.default_rng(0), 300
    numbers = {name: random.standard_normal((rows, 2)).astype(np.float32) for name in ("m1", "m2")}
    several, few = np.arange(rows) < 150, np.arange(rows) < 50
    for complete in (several, few):
        samples = Dataset.from_arrays(numbers, present={"m2": complete})
        of_all = _fitted_to(model, samples, np.arange(rows))
        of_complete = _fitted_to(model, samples, np.flatnonzero(complete))
        assert all(torch.equal(of_all[name], weight) for name, weight in of_complete.items()) == (complete is several)


def test_rows_are_taken_evenly_from_first_to_last() -> None:
    rows = np.arange(100, 2149)
    assert conditional_losses._evenly(rows[:1024], 1024).tolist() == rows[:1024].tolist()
    some = conditional_losses._evenly(rows, 1024)
    assert (len(some), some[0], some[-1]) == (1024, 100, 2148)
    assert set(np.diff(some).tolist()) == {2, 3}


@pytest.mark.parametrize(("held_out", "is_fitted"), [(40, True), (10, False)])
def test_the_spread_of_decoded_values_needs_few_held_out_rows(held_out: int, is_fitted: bool) -> None:
    training = SHORT.model_copy(update={"validation_rows": tuple(range(held_out))})
    model = _finished(_trained(training, LEARNING))
    assert model.conditional is not None
    calibration = model.conditional.calibration
    assert (calibration.noise("m1") != 1).any() == is_fitted
    assert (calibration.factor == 1).all()


def _calibrated(rows: dict[int, int]) -> DrawCalibration:
    modalities = [ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in ("a", "b")]
    found = DrawCalibration(modalities)
    # without squares, the variances say nothing about the width
    each = torch.tensor([[1.0], [0.0], [0.0]])
    scores = {pattern: Scores(torch.linspace(0, 1 + pattern, count) * each, count) for pattern, count in rows.items()}
    found.set_factors("a", scores, max(rows.values()), 0.9)
    return found


def test_patterns_with_few_rows_share_a_pooled_width() -> None:
    present = torch.tensor([False, True])
    given = Batch({"b": torch.zeros(2, 2)}, {"b": present})
    width = _calibrated({0: MIN_ROWS, 2: MIN_ROWS - 1}).width("a", given)
    assert width.calibration.tolist() == [PATTERN, POOLED]
    assert width.factor[0] == pytest.approx(0.9, abs=0.02)
    assert width.factor[1] > 1
    assert _calibrated({0: 20, 2: 20}).width("a", given).calibration.tolist() == [NONE, NONE]


@pytest.mark.parametrize(
    ("furthest", "ratio", "factor"),
    [(2.0, 1.0, 1.8), (0.5, 0.1, 0.45), (0.5, 0.8, 0.6), (0.5, 1.0, 0.67), (0.5, 3.0, 0.67)],
    ids=["too narrow", "much too wide", "too wide", "as wide as the errors", "errors far out"],
)
def test_draws_are_narrowed_half_way_from_their_variance_to_their_intervals(
    furthest: float, ratio: float, factor: float
) -> None:
    """90 % of errors are below .9 `furthest`, and deviations are `ratio` of those of the draws."""
    errors = torch.linspace(0, furthest, 1000)
    found = Scores(torch.stack([errors, torch.full_like(errors, ratio**2), torch.ones_like(errors)]), 1000)
    assert found.factor(0.9) == pytest.approx(factor, abs=0.01)


def test_with_many_modalities_all_patterns_share_a_width() -> None:
    random, names = np.random.default_rng(0), [f"m{number}" for number in range(7)]
    values = {name: random.standard_normal((400, 1)).astype(np.float32) for name in names}
    modalities = tuple(ModalityConfig(name=name, shape=(1,), likelihood="gaussian") for name in names)
    config = MMVAEConfig(modalities=modalities, latent_features=2, conditional=FLOW)
    training = TrainingConfig(epochs=1, conditional_steps=10, validation_fraction=0.3)
    model = _finished(list(fit(config, Dataset.from_arrays(values), training, seed=0)))
    given = Batch({"m0": torch.zeros(2, 1)}, {"m0": torch.ones(2, dtype=torch.bool)})
    assert conditional_draws.width(model, "m1", given).calibration.tolist() == [POOLED, POOLED]


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_modalities_of_a_single_number_are_calibrated_and_scored(kind: str) -> None:
    random = np.random.default_rng(0)
    shape = (300,) if kind == "static" else (80, 5)
    values = {name: random.standard_normal(shape).astype(np.float32) for name in ("a", "b")}
    modalities = tuple(ModalityConfig(name=name, likelihood="gaussian") for name in values)
    config: MMVAEConfig | MMVRNNConfig = MMVAEConfig(modalities=modalities, latent_features=2, conditional=FLOW)
    if kind == "sequence":
        flow = SequenceFlowConfig(hidden_features=8, layers=1)
        config = MMVRNNConfig(modalities=modalities, latent_features=2, conditional=flow)
    dataset = Dataset.from_arrays(values, config.kind)
    *_, last = fit(
        config, dataset, TrainingConfig(epochs=1, batch_size=20, conditional_steps=10, validation_fraction=0.4), seed=0
    )
    assert isinstance(last, Finished)
    assert last.model.conditional is not None
    assert (last.model.conditional.calibration.rows[:, -1] > 0).all()
    matrix = evaluate(last.model, dataset, last.train_rows, last.validation_rows)["matrix"]
    assert all(entry["draws"]["crps"] > 0 for entry in matrix if entry["target"] not in entry["observed"])


def test_a_loss_that_is_no_number_ends_the_training_with_the_step() -> None:
    trained = _finished(list(fit(two(), static(), SHORT, seed=0)))
    broken = {
        name: torch.full_like(w, torch.nan) if "encoders" in name else w for name, w in trained.state_dict().items()
    }
    with pytest.raises(TrainingDiverged, match="conditional part is nan at step 1 of 60"):
        _trained(SHORT.model_copy(update={"fit": "conditional"}), init=broken)


def _answers(values: dict[str, np.ndarray], given: dict[str, np.ndarray], target: str) -> np.ndarray:
    """400 draws of a modality given another, by a model trained on these values: (rows, 400, *shape)."""
    samples = Dataset.from_arrays(values)
    modalities = tuple(
        ModalityConfig(
            name=one.name,
            shape=one.shape,
            categories=one.categories,
            likelihood="gaussian" if one.categories is None else "categorical",
        )
        for one in samples.modalities
    )
    config = MMVAEConfig(modalities=modalities, latent_features=4, conditional=ConditionalFlowConfig())
    training = TrainingConfig(
        epochs=40, weight_average=0.99, conditional_steps=1000, batch_size=min(64, samples.rows // 2)
    )
    model = _finished(list(fit(config, samples, training, seed=0)))
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    inputs = Batch(tensors, {name: torch.ones(len(value), dtype=torch.bool) for name, value in given.items()})
    with torch.inference_mode():
        found, _ = conditional_draws.complete(model, inputs, [target], 0.9, 400, 0, np.arange(inputs.rows))
    return found[target]["draws"].numpy()


@pytest.mark.slow
def test_draws_of_small_tables_are_as_good_as_a_regression() -> None:
    """300 rows, y = x A + 0.5 e. The error of the draws' mean is that of least squares, and their spread that of e."""
    random = np.random.default_rng(4)
    mixing = random.standard_normal((4, 2)) / 2
    x = random.standard_normal((1000, 4))
    y = x @ mixing + 0.5 * random.standard_normal((1000, 2))
    values = {name: value[:300].astype(np.float32) for name, value in {"x": x, "y": y}.items()}
    drawn = _answers(values, {"x": x[300:].astype(np.float32)}, "y")
    weight = np.linalg.lstsq(np.c_[np.ones(300), x[:300]], y[:300], rcond=None)[0]
    own, squares = (
        np.square(found - x[300:] @ mixing).mean()
        for found in (drawn.mean(axis=1), np.c_[np.ones(700), x[300:]] @ weight)
    )
    assert own < squares + 0.02 * 0.25
    assert drawn.var(axis=1).mean() / 0.25 == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_draws_of_two_moons_are_those_of_the_moon_that_is_given() -> None:
    random = np.random.default_rng(0)

    def moons(rows: int) -> tuple[np.ndarray, np.ndarray]:
        which, angle = random.integers(0, 2, rows), random.uniform(0, np.pi, rows)
        upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points = np.where(which[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)
        return (points + 0.08 * random.standard_normal((rows, 2))).astype(np.float32), which

    points, which = moons(4000)
    drawn = _answers({"point": points, "moon": which}, {"moon": np.arange(2)}, "point")
    points, which = moons(1000)
    for moon in (0, 1):
        assert p_value(drawn[moon], points[which == moon][:400]) > 0.01


@pytest.mark.slow
def test_draws_of_a_bimodal_mixture_have_both_modes_with_their_weights() -> None:
    """b = a / 2 + 2 s + 0.3 e, with s = 1 in three of ten rows, else -1."""
    random = np.random.default_rng(0)

    def mixture(given: np.ndarray) -> np.ndarray:
        side = np.where(random.random(given.shape) < 0.3, 2.0, -2.0)
        return (given / 2 + side + 0.3 * random.standard_normal(given.shape)).astype(np.float32)

    given = random.standard_normal((4000, 1)).astype(np.float32)
    asked = np.array([[-1], [0], [1]], np.float32)
    drawn = _answers({"a": given, "b": mixture(given)}, {"a": asked}, "b")
    for row, at in zip(drawn, asked[:, 0], strict=True):
        assert (row > at / 2).mean() == pytest.approx(0.3, abs=0.05)
        assert p_value(row, mixture(np.full((400, 1), at))) > 0.01


@pytest.mark.slow
def test_draws_of_a_gaussian_follow_its_conditional_distribution() -> None:
    """x = A z + 0.3 e has the conditional mean K a and covariance C (Bishop, 2006, equations 2.81 and 2.82)."""
    random = np.random.default_rng(3)
    mixing = random.standard_normal((6, 3))
    x = random.standard_normal((4000, 3)) @ mixing.T + 0.3 * random.standard_normal((4000, 6))
    covariance = mixing @ mixing.T + 0.09 * np.eye(6)
    gain = covariance[3:, :3] @ np.linalg.inv(covariance[:3, :3])
    own = covariance[3:, 3:] - gain @ covariance[:3, 3:]
    given, others = x[:, :3].astype(np.float32), x[:, 3:].astype(np.float32)
    drawn = _answers({"a": given, "b": others}, {"a": given[:3]}, "b")
    for row, at in zip(drawn, given, strict=False):
        assert p_value(row, random.multivariate_normal(gain @ at, own, 400)) > 0.01


@pytest.mark.slow
def test_draws_of_a_very_small_table_are_as_good_as_a_ridge_regression() -> None:
    """24 rows, of which too few are held out to train a flow: the regression alone answers."""
    random = np.random.default_rng(6)
    mixing = random.standard_normal((3, 3)) / 2
    x = random.standard_normal((300, 3))
    y = x @ mixing + 0.7 * random.standard_normal((300, 3))
    values = {name: value[:24].astype(np.float32) for name, value in {"x": x, "y": y}.items()}
    drawn = _answers(values, {"x": x[24:].astype(np.float32)}, "y")
    ridge = RidgeCV(np.logspace(-3, 4, 15)).fit(x[:24], y[:24])
    own, of_ridge = (np.square(found - x[24:] @ mixing).mean() for found in (drawn.mean(axis=1), ridge.predict(x[24:])))
    assert own < of_ridge + 0.05 * 0.49
    assert drawn.var(axis=1).mean() / 0.49 == pytest.approx(1, abs=0.4)
