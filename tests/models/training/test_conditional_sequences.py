"""The conditional part of sequences: fitted at the end of a training or alone, for every form of the model."""

from typing import Any

import numpy as np
import pytest
import torch

from models import conditional_draws
from models.batch import Batch
from models.config import MMVRNNConfig, ModalityConfig, SequenceFlowConfig, TrainingConfig
from models.config.presets import choose
from models.draw_calibration import MIN_SEQUENCES, NONE, PATTERN, POOLED, Scores, SequenceDrawCalibration
from models.mmvrnn import MMVRNN
from models.training.dataset import Dataset
from models.training.evaluate import evaluate
from models.training.events import Checkpoint, Conditional, Event, Finished
from models.training.loop import fit
from tests.models.training.small import sequences, two

FLOW = SequenceFlowConfig(hidden_features=8, layers=2, code_features=3)
SHORT = TrainingConfig(epochs=2, batch_size=20, conditional_steps=60)
SMOOTH = {"inference": "smooth", "static_latent_features": 3}
FORMS: list[dict[str, Any]] = [{}, SMOOTH, {"posterior": "product_of_experts"}, {"recurrence": "lstm"}]


def _finished(events: list[Event]) -> MMVRNN:
    last = events[-1]
    assert isinstance(last, Finished)
    assert isinstance(last.model, MMVRNN)
    return last.model


def _trained(training: TrainingConfig = SHORT, form: dict[str, Any] | None = None, **arguments: Any) -> list[Event]:
    config = two("sequence", conditional=FLOW, **(SMOOTH if form is None else form))
    return list(fit(config, sequences(), training, seed=0, **arguments))


@pytest.mark.parametrize("form", FORMS, ids=["filter", "smooth", "experts", "lstm"])
def test_a_conditional_part_changes_no_other_weight_and_is_the_same_for_a_seed(form: dict[str, Any]) -> None:
    events = _trained(form=form)
    weights = _finished(events).state_dict()
    plain = _finished(list(fit(two("sequence", **form), sequences(), SHORT, seed=0)))
    rest = {name: weight for name, weight in weights.items() if not name.startswith("conditional.")}
    torch.testing.assert_close(rest, plain.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(_finished(_trained(form=form)).state_dict(), weights, rtol=0, atol=0)
    assert [event.step for event in events if isinstance(event, Conditional)] == [50, 60]


def test_a_training_stopped_in_its_conditional_part_ends_as_one_that_was_not() -> None:
    whole = _trained()
    reached = 0

    def stops() -> bool:
        nonlocal reached
        reached += 1
        return reached > 2 * 2 + 30  # four steps of the model, then thirty of the conditional part

    stopped = _trained(should_stop=stops)[-1]
    assert isinstance(stopped, Checkpoint)
    resumed = _finished(_trained(resume_from=stopped.state))
    torch.testing.assert_close(resumed.state_dict(), _finished(whole).state_dict(), rtol=0, atol=0)


def test_a_conditional_part_is_fitted_to_a_trained_model_alone() -> None:
    trained = _finished(list(fit(two("sequence", **SMOOTH), sequences(), SHORT, seed=0)))
    alone = _finished(_trained(SHORT.model_copy(update={"fit": "conditional"}), init=trained.state_dict()))
    rest = {name: weight for name, weight in alone.state_dict().items() if not name.startswith("conditional.")}
    torch.testing.assert_close(rest, trained.state_dict(), rtol=0, atol=0)


def test_a_step_s_pattern_tells_what_is_given_beside_before_and_after_it() -> None:
    calibration = SequenceDrawCalibration([ModalityConfig(name=name, likelihood="gaussian") for name in ("a", "b")])
    own, other = torch.tensor([[0, 1, 0, 1, 0, 0]]).bool(), torch.tensor([[1, 1, 1, 0, 0, 1]]).bool()
    given = Batch({"a": torch.zeros(1, 6), "b": torch.zeros(1, 6)}, {"a": own, "b": other}, torch.tensor([6]))
    assert calibration.pattern("a", given).tolist() == [[5, 7, 7, 6, 2, 3]]
    errors = torch.linspace(0, 2, 500).expand(3, 500)
    enough, few = Scores(errors, MIN_SEQUENCES), Scores(2 * errors, MIN_SEQUENCES - 1)
    calibration.set_factors("a", {2: enough, 3: few}, MIN_SEQUENCES, 0.9)
    width = calibration.width("a", given)
    assert width.calibration.tolist() == [[POOLED, POOLED, POOLED, POOLED, PATTERN, POOLED]]
    assert width.factor[0, 4] == pytest.approx(1.8, abs=0.01)
    assert calibration.width("b", given).calibration.tolist() == [[NONE] * 6]


def test_draws_of_missing_modalities_are_scored_by_the_evaluation() -> None:
    events = _trained(SHORT.model_copy(update={"validation_fraction": 0.5}))
    last = events[-1]
    assert isinstance(last, Finished)
    found = evaluate(last.model, sequences(), last.train_rows, last.validation_rows)["matrix"]
    cell = next(entry for entry in found if entry["observed"] == ["m1"] and entry["target"] == "m2")
    assert cell["draws"].keys() == {"crps", "energy_score", "coverage_90", "variance_ratio"}
    assert cell["draws"]["energy_score"] > cell["draws"]["crps"] > 0


def _of_default_choices(values: dict[str, np.ndarray], **training: Any) -> Finished:
    dataset = Dataset.from_arrays(values, "sequence")
    modalities = tuple(
        ModalityConfig(name=one.name, shape=one.shape, likelihood="gaussian") for one in dataset.modalities
    )
    chosen = choose(None, "sequence", len(modalities), dataset.rows, {}, training)
    config = MMVRNNConfig(modalities=modalities, conditional=SequenceFlowConfig(), **chosen.architecture)
    *_, last = fit(config, dataset, TrainingConfig(**chosen.training), seed=0)
    assert isinstance(last, Finished)
    return last


@pytest.mark.slow
def test_draws_of_a_linear_gaussian_state_space_follow_its_conditional_distribution() -> None:
    """s_t = A s_{t-1} + 0.2 q, x_t = H s_t + 0.2 r: all steps are jointly Gaussian, and so is what is missing of them.

    Bishop, 2006, equations 2.81 and 2.82, for 8 steps of one modality with one number and one with two: means,
    deviations and correlations of what is missing, all steps together.
    """
    steps, random = 8, np.random.default_rng(0)
    turn, seen = 0.98 * np.array([[0.95, 0.2], [-0.2, 0.95]]), np.array([[1.0, 0.0], [0.5, -1.0], [1.0, 1.0]])
    # the states are a linear map of the noise: s = M e, with M lower triangular in blocks
    powers = [np.linalg.matrix_power(turn, power) for power in range(steps)]
    scale = [1.0, *[0.2] * (steps - 1)]
    mixing = np.block(
        [[powers[t - u] * scale[u] if u <= t else np.zeros((2, 2)) for u in range(steps)] for t in range(steps)]
    )
    mixing = np.kron(np.eye(steps), seen) @ mixing
    covariance = mixing @ mixing.T + 0.04 * np.eye(3 * steps)
    drawn = random.multivariate_normal(np.zeros(3 * steps), covariance, 4000).astype(np.float32)
    values = drawn.reshape(-1, steps, 3)
    model = _of_default_choices({"a": values[..., :1], "b": values[..., 1:]}).model
    test = random.multivariate_normal(np.zeros(3 * steps), covariance, 3).astype(np.float32)
    index = np.arange(3 * steps).reshape(steps, 3)
    for given in (index[:, :1].ravel(), index[:4].ravel(), index[4:].ravel()):
        missing = np.setdiff1d(index, given)
        gain = covariance[np.ix_(missing, given)] @ np.linalg.inv(covariance[np.ix_(given, given)])
        own = covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(given, missing)]
        mask = np.isin(index, given)
        present = {"a": torch.from_numpy(mask[None, :, 0]), "b": torch.from_numpy(mask[None, :, 1])}
        for row in test:
            row_values = np.where(mask, row.reshape(steps, 3), 0)[None]
            tensors = {"a": torch.from_numpy(row_values[..., :1]), "b": torch.from_numpy(row_values[..., 1:])}
            with torch.inference_mode():
                found, _ = conditional_draws.complete(
                    model, Batch(tensors, present, torch.tensor([steps])), ["a", "b"], 0.9, 300, 0, np.arange(1)
                )
            both = torch.cat([found["a"]["draws"], found["b"]["draws"]], dim=-1)[0].flatten(1).numpy()
            spread, found_values = np.sqrt(np.diag(own)), both[:, missing]
            apart = (found_values.mean(axis=0) - gain @ row[given]) / spread
            assert np.sqrt(np.square(apart).mean()) < 0.25
            assert 0.85 < (found_values.std(axis=0) / spread).mean() < 1.25
            # 300 exact draws have 0.05
            assert np.abs(np.corrcoef(found_values.T) - own / np.outer(spread, spread)).mean() < 0.1
