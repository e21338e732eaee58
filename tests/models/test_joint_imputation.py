"""Joint draws of what is missing: of every kind of value, reproducible, and apart from the rest of the batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import ConditionalFlowConfig, ModalityConfig
from models.io import checkpoint
from models.predictor import Predictor, load
from tests.models.small import MODALITIES, static_model

EVERY = (
    *MODALITIES,
    ModalityConfig(name="depth", likelihood="laplace", scale="predicted"),
    ModalityConfig(name="calls", shape=(2,), likelihood="poisson"),
    ModalityConfig(name="reads", shape=(2,), likelihood="negative_binomial", scale="predicted"),
)
NAMES = [modality.name for modality in EVERY]
FIXTURES = Path(__file__).parents[1] / "fixtures" / "conditional"
ROWS, DRAWS = 4, 6
AUDIO = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A model with a conditional part, both with random weights."""
    model = static_model(EVERY)
    torch.manual_seed(1)
    model.add_conditional(ConditionalFlowConfig(hidden_features=16))
    return Predictor(model.eval())


def _impute(predictor: Predictor, values: Any, present: Any, **options: Any) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = predictor.impute(values, present, draws=DRAWS, **options)["completed"]
    return found


def test_draws_are_values_of_their_kind(predictor: Predictor) -> None:
    found = _impute(predictor, {"audio": AUDIO}, {"audio": np.ones(ROWS, bool)})
    for modality in EVERY:
        drawn = found[modality.name]["draws"]
        assert drawn.shape == (ROWS, DRAWS, *modality.shape)
        assert drawn.dtype == modality.dtype
        if modality.categories is not None:
            assert set(np.unique(drawn)) <= set(range(modality.categories))
        else:
            assert modality.support.contains(drawn).all()
            assert set(np.unique(found["face"]["draws"])) <= {0, 1}
        if modality.facts.quantiles:
            assert (found[modality.name]["lower"] <= found[modality.name]["upper"]).all()


def test_given_values_stay_in_every_draw_also_in_parts(predictor: Predictor) -> None:
    mask = np.zeros((ROWS, 3), bool)
    mask[:, 0], mask[0] = True, True
    found = _impute(predictor, {"audio": AUDIO}, {"audio": mask}, targets=["audio"])["audio"]
    np.testing.assert_array_equal(found["value"][mask], AUDIO[mask])
    np.testing.assert_array_equal(found["draws"].swapaxes(0, 1)[:, mask], np.tile(AUDIO[mask], (DRAWS, 1)))
    assert (found["draws"][1:, :, 1:].std(axis=1) > 0).all()


def test_a_row_s_draws_follow_from_the_seed_and_its_number_alone(predictor: Predictor) -> None:
    present = {"audio": np.ones(ROWS, bool)}
    together = _impute(predictor, {"audio": AUDIO}, present, seed=3)
    alone = _impute(predictor, {"audio": AUDIO[2:3]}, {"audio": present["audio"][:1]}, seed=3, rows=np.array([2]))
    other = _impute(predictor, {"audio": AUDIO}, present, seed=4)
    for name in NAMES:
        np.testing.assert_allclose(together[name]["draws"][2], alone[name]["draws"][0], rtol=1e-4, atol=1e-5)
    assert not np.array_equal(together["depth"]["draws"], other["depth"]["draws"])
    same = _impute(predictor, {"audio": AUDIO[[0, 0]]}, {"audio": present["audio"][:2]}, seed=3)
    assert not np.array_equal(same["depth"]["draws"][0], same["depth"]["draws"][1])


def test_the_mean_does_not_depend_on_the_number_of_draws_that_are_asked_for(predictor: Predictor) -> None:
    given = {"audio": AUDIO}, {"audio": np.ones(ROWS, bool)}
    few, none = predictor.impute(*given, draws=2), predictor.impute(*given)
    for name in NAMES:
        assert "draws" not in none["completed"][name]
        for key, value in none["completed"][name].items():
            np.testing.assert_array_equal(value, few["completed"][name][key])


def test_a_stored_model_draws_the_same(predictor: Predictor, tmp_path: Path) -> None:
    checkpoint.save(predictor._model, tmp_path / "model", {})  # type: ignore[arg-type]
    given = {"audio": AUDIO}, {"audio": np.ones(ROWS, bool)}
    again = _impute(Predictor(checkpoint.load(tmp_path / "model")), *given)
    for name, answer in _impute(predictor, *given).items():
        np.testing.assert_array_equal(answer["draws"], again[name]["draws"])


def test_a_stored_version_whose_draws_start_at_a_normal_distribution_answers_as_it_did() -> None:
    """Stored by commit 3bd6694, whose configurations had no `start`."""
    predictor = load(FIXTURES / "normal_start.safetensors")
    asked = {"b": np.array([0, 1])}, {"b": np.ones(2, bool)}
    found = predictor.impute(*asked, draws=3, seed=4)["completed"]["a"]
    stored = np.load(FIXTURES / "normal_start.npz")
    for name in ("mean", "draws", "lower"):
        np.testing.assert_allclose(found[name], stored[name], rtol=1e-4, atol=1e-5)
