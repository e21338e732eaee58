"""Draws of real numbers have the mean that held-out rows found best, and the regressions get all rows at the end."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from models import Predictor
from models.config import ConditionalFlowConfig, MMVAEConfig, ModalityConfig, TrainingConfig
from models.mmvae import MMVAE
from models.stacking import IN_PART, LINEAR, TOGETHER
from models.training.dataset import Dataset
from models.training.events import Finished
from models.training.loop import fit
from models.training.refit import refit

MODALITIES = (
    ModalityConfig(name="x", shape=(4,), likelihood="gaussian"),
    ModalityConfig(name="y", shape=(2,), likelihood="laplace", scale="predicted"),
    ModalityConfig(name="word", categories=3, likelihood="categorical"),
    ModalityConfig(name="count", likelihood="poisson"),
)
FLOW = ConditionalFlowConfig(hidden_features=16, layers=1)
SHORT = TrainingConfig(epochs=1, batch_size=8, conditional_steps=50, validation_fraction=0.25)


def _values(rows: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    x, word = random.standard_normal((rows, 4)), random.integers(0, 3, rows)
    y = 50 + x @ random.standard_normal((4, 2)) + np.array([[0.0, 0], [2, 0], [0, 2]])[word]
    y += 0.3 * random.standard_normal((rows, 2))
    count = random.poisson(2, rows)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32), "word": word, "count": count.astype(np.float32)}


def _trained(rows: int, training: TrainingConfig = SHORT, **arguments: Any) -> tuple[Finished, Dataset]:
    values = {name: value[:rows] for name, value in _values(1000).items()}
    dataset = Dataset.from_arrays(values, **arguments)
    config = MMVAEConfig(modalities=MODALITIES, latent_features=2, conditional=FLOW)
    *_, last = fit(config, dataset, training, seed=0)
    assert isinstance(last, Finished)
    return last, dataset


def _error(finished: Finished, rows: slice) -> float:
    """The squared error of y given all else, of the last rows."""
    values = {name: value[rows] for name, value in _values(1000).items()}
    truth = values.pop("y")
    present = {name: np.ones(len(truth), bool) for name in values}
    found = Predictor(finished.model).impute(values, present, targets=["y"], draws=20)["completed"]["y"]
    np.testing.assert_allclose(found["draws"].mean(axis=1), found["mean"], atol=0.8)
    return float(np.square(found["mean"] - truth).mean())


def _least_squares(rows: int) -> float:
    values = _values(1000)
    inputs = np.c_[values["x"], np.eye(3)[values["word"]], values["count"]]
    found = LinearRegression().fit(inputs[:rows], values["y"][:rows]).predict(inputs[500:])
    return float(np.square(found - values["y"][500:]).mean())


@pytest.mark.parametrize(("rows", "part"), [(40, 1.25), (400, 1.05)])
def test_answers_are_as_good_as_a_regression_where_the_networks_have_learned_nothing(rows: int, part: float) -> None:
    finished, dataset = _trained(rows)
    refit(finished, dataset, SHORT)
    assert _error(finished, slice(500, None)) < part * _least_squares(rows)


def test_with_few_held_out_rows_the_regression_counts_alone() -> None:
    finished, _ = _trained(40)
    assert isinstance(finished.model, MMVAE)
    assert finished.model.conditional is not None
    stacking = finished.model.conditional.stacking
    assert stacking is not None
    y = stacking.names.index("y")
    assert stacking.weight[y, TOGETHER, LINEAR] == 1
    assert stacking.weight[y, IN_PART, LINEAR] == 1
    assert stacking.rows[y, TOGETHER] == 0


def test_all_rows_count_at_the_end_but_those_held_out_by_name() -> None:
    for named in (False, True):
        training = SHORT.model_copy(update={"validation_rows": tuple(range(10))}) if named else SHORT
        finished, dataset = _trained(40, training)
        before = {name: weight.clone() for name, weight in finished.model.state_dict().items()}
        refit(finished, dataset, training)
        changed = {
            name for name, weight in finished.model.state_dict().items() if not torch.equal(weight, before[name])
        }
        assert ("conditional.stacking.regression.mean" in changed) is not named
        assert ("conditional.start.covariance" in changed) is not named
        assert all(name.startswith("conditional.") for name in changed)


def test_nothing_changes_without_held_out_rows() -> None:
    training = SHORT.model_copy(update={"validation_fraction": 0.0})
    finished, dataset = _trained(40, training)
    before = {name: weight.clone() for name, weight in finished.model.state_dict().items()}
    refit(finished, dataset, training)
    torch.testing.assert_close(finished.model.state_dict(), before, rtol=0, atol=0)


def test_missing_elements_follow_from_those_that_are_given() -> None:
    """x says nothing of y, so that only one element of y tells the other; the variance that it leaves is .01."""
    random = np.random.default_rng(0)
    first = random.standard_normal(300)
    y = np.c_[first, first + 0.1 * random.standard_normal(300)].astype(np.float32)
    values = {"x": random.standard_normal((300, 4)).astype(np.float32), "y": y}
    config = MMVAEConfig(modalities=MODALITIES[:2], latent_features=2, conditional=FLOW)
    *_, last = fit(config, Dataset.from_arrays(values), SHORT, seed=0)
    assert isinstance(last, Finished)
    given = np.zeros((300, 2), bool)
    given[:, 0] = True
    found = Predictor(last.model).impute({"y": y}, {"y": given}, targets=["y"])["completed"]["y"]["value"]
    assert np.square(found[:, 1] - y[:, 1]).mean() < 0.03


def test_images_and_single_numbers_beside_a_modality_that_the_regression_lacks() -> None:
    random = np.random.default_rng(0)
    one = random.standard_normal(300).astype(np.float32)
    image = (one[:, None, None, None] + 0.1 * random.standard_normal((300, 1, 2, 2))).astype(np.float32)
    values = {"one": one, "image": image, "wide": random.standard_normal((300, 1100)).astype(np.float32)}
    shapes: dict[str, tuple[int, ...]] = {"one": (), "image": (1, 2, 2), "wide": (1100,)}
    modalities = tuple(
        ModalityConfig(name=name, shape=shape, likelihood="gaussian", scale="predicted" if name == "one" else "learned")
        for name, shape in shapes.items()
    )
    config = MMVAEConfig(modalities=modalities, latent_features=2, conditional=FLOW)
    *_, last = fit(config, Dataset.from_arrays(values), SHORT, seed=0)
    assert isinstance(last, Finished)
    refit(last, Dataset.from_arrays(values), SHORT)
    predictor, rows = Predictor(last.model), np.ones(300, bool)
    of_image = predictor.impute({"image": image}, {"image": rows}, targets=["one", "wide"], draws=2)["completed"]
    assert np.square(of_image["one"]["mean"] - one).mean() < 0.05
    assert of_image["wide"]["draws"].shape == (300, 2, 1100)
    of_one = predictor.impute({"one": one}, {"one": rows}, targets=["image"])["completed"]["image"]["mean"]
    assert np.square(of_one - image).mean() < 0.05


def test_many_modalities_share_the_weights_of_all_patterns() -> None:
    random, names = np.random.default_rng(0), [f"m{number}" for number in range(8)]
    common = random.standard_normal((200, 1))
    values = {name: (common + 0.1 * random.standard_normal((200, 1))).astype(np.float32) for name in names}
    modalities = tuple(ModalityConfig(name=name, shape=(1,), likelihood="gaussian") for name in names)
    config = MMVAEConfig(modalities=modalities, latent_features=2, conditional=FLOW)
    *_, last = fit(config, Dataset.from_arrays(values), SHORT, seed=0)
    assert isinstance(last, Finished)
    given = {name: value for name, value in values.items() if name != "m0"}
    found = Predictor(last.model).impute(given, {name: np.ones(200, bool) for name in given}, targets=["m0"])
    assert np.square(found["completed"]["m0"]["mean"] - values["m0"]).mean() < 0.03


def test_a_dataset_without_complete_rows_has_no_regression() -> None:
    rows = 60
    first = np.arange(rows) % 2 == 0
    finished, dataset = _trained(rows, present={"x": first, "y": ~first})
    refit(finished, dataset, SHORT)
    assert isinstance(finished.model, MMVAE)
    assert finished.model.conditional is not None
    assert finished.model.conditional.stacking is not None
    assert torch.equal(finished.model.conditional.stacking.regression.covariance, torch.eye(10))


def test_a_row_s_answer_does_not_depend_on_the_other_rows() -> None:
    finished, _ = _trained(100)
    predictor, values = Predictor(finished.model), _values(6)
    present = {name: np.arange(6) % (2 + number) > 0 for number, name in enumerate(values)}
    together = predictor.impute(values, present, draws=4)["completed"]
    for row in range(6):
        one = slice(row, row + 1)
        alone = predictor.impute(
            {name: value[one] for name, value in values.items()},
            {name: mask[one] for name, mask in present.items()},
            draws=4,
            rows=np.array([row]),
        )["completed"]
        for name in ("x", "y"):
            np.testing.assert_allclose(together[name]["draws"][row], alone[name]["draws"][0], rtol=1e-3, atol=1e-4)
