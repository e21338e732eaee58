"""A likelihood that a package adds by its entry point does all that a built-in one does."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import models
from models import likelihoods
from models.config import LikelihoodName, MLPConfig, MMVAEConfig, ModalityConfig, TrainingConfig, default_likelihood
from models.config.size import size_of
from models.likelihoods import Likelihood
from tests import own_likelihood

ROWS = 200


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(own_likelihood.install(tmp_path)))


def density(scale: str = "learned") -> Likelihood:
    return likelihoods.build(ModalityConfig.model_validate({"name": "m", "likelihood": "log_normal", "scale": scale}))


def config(scale: str = "learned") -> MMVAEConfig:
    price = ModalityConfig.model_validate({"name": "price", "shape": (2,), "likelihood": "log_normal", "scale": scale})
    size = ModalityConfig(name="size", shape=(1,), likelihood="gaussian")
    return MMVAEConfig(modalities=(price, size), latent_features=2, network=MLPConfig(hidden_features=(16,)))


def prices() -> models.Dataset:
    """Prices follow sizes, over four orders of magnitude; a quarter of the rows lack each."""
    generator = np.random.default_rng(0)
    size = generator.normal(size=(ROWS, 1)).astype(np.float32)
    price = np.exp(2 * np.concatenate([size, -size], axis=1) + 0.1 * generator.normal(size=(ROWS, 2)))
    present = {"price": np.arange(ROWS) % 4 != 0, "size": np.arange(ROWS) % 4 != 1}
    price[~present["price"]] = 0
    return models.Dataset.from_arrays({"price": price.astype(np.float32), "size": size}, present=present)


def test_its_name_is_listed_and_an_unknown_one_is_refused_with_the_list() -> None:
    names = TypeAdapter(LikelihoodName).json_schema()["enum"]
    assert names[-1] == "log_normal"
    with pytest.raises(ValidationError, match=r"there is no likelihood 'normal', only bernoulli, .*, log_normal"):
        ModalityConfig(name="m", likelihood="normal")


def test_it_is_the_default_of_the_values_that_it_suggests() -> None:
    figures = {"minimum": 0.01, "maximum": 1e5, "mean": 100.0, "standard_deviation": 9.0}
    assert default_likelihood("float32", None, figures) == "log_normal"
    assert default_likelihood("float32", None, {**figures, "minimum": 1e3}) == "gaussian"
    assert default_likelihood("int64", 4) == "categorical"


def test_scales_are_those_that_it_allows() -> None:
    assert density("predicted").parameter_shape == (2,)
    with pytest.raises(ValidationError, match=r"'m' is log_normal, which has no scale 0\.5"):
        ModalityConfig(name="m", likelihood="log_normal", scale=0.5)


def test_a_value_outside_its_support_has_no_density_and_no_gradient() -> None:
    found, raw = density(), torch.zeros(3, requires_grad=True)
    value = torch.tensor([0.0, -1.0, 2.0])
    log_prob = found.log_prob(raw, value)
    expected = torch.distributions.LogNormal(0.0, 0.3).log_prob(value[2])
    torch.testing.assert_close(log_prob, torch.stack([torch.tensor(-math.inf)] * 2 + [expected]))
    log_prob[2].backward(retain_graph=True)
    torch.where(torch.tensor([False, False, True]), log_prob, 0.0).sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert found.standardise(value).isfinite().all()


def test_its_size_has_a_closed_form() -> None:
    for scale in ("learned", "predicted"):
        size = size_of(config(scale))
        assert size is not None
        assert size.parameters == sum(parameter.numel() for parameter in models.build(config(scale)).parameters())


@pytest.mark.parametrize("scale", ["learned", "predicted"])
def test_it_is_trained_evaluated_saved_and_used_for_inference(scale: str, tmp_path: Path) -> None:
    *_, finished = models.fit(
        config(scale), prices(), TrainingConfig(epochs=60, batch_size=32, learning_rate=1e-2), seed=1
    )
    assert isinstance(finished, models.Finished)
    evaluation = models.evaluate(finished.model, prices(), np.arange(ROWS)[20:], np.arange(20), seed=0)
    (entry,) = (one for one in evaluation["matrix"] if one["observed"] == ["size"] and one["target"] == "price")
    assert entry["metric"] == "root_mean_squared_log_error"
    assert entry["error"] < 0.5 * entry["baseline_error"]
    assert entry["coverage_90"] is None
    assert math.isfinite(entry["log_likelihood"])

    models.save(finished.model, tmp_path / "model.safetensors", {})
    predictor = models.load(tmp_path / "model.safetensors")
    values, present = {"size": np.array([[1.0], [-1.0]], np.float32)}, {"size": np.ones(2, bool)}
    answer = predictor.reconstruct(values, present, None, ["price"])["price"]
    assert answer.keys() == {"median", "log_standard_deviation"}
    assert answer["median"][0, 0] > math.e > 1 / math.e > answer["median"][0, 1]
    filled = predictor.impute(values, present)["completed"]["price"]
    np.testing.assert_array_equal(filled["value"], answer["median"])
    assert (filled["lower"] < answer["median"]).all()
    assert (filled["upper"] > answer["median"]).all()
    drawn = predictor.sample(500, seed=3)["price"]["value"]
    assert (drawn > 0).all()
    usual = {"price": np.array([[7.4, 0.14], [7.4, 7.4]], np.float32), "size": np.ones((2, 1), np.float32)}
    score = predictor.score(usual, {name: np.ones(2, bool) for name in usual})
    assert score.bound[0] > score.bound[1]
    predictor.warm_up()
