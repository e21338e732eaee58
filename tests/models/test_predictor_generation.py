"""Forecasts and samples: where they begin, what they depend on, and what they look like."""

from typing import Any

import numpy as np
import pytest
import torch

from models import gaussian
from models.batch import BatchError
from models.config import ModalityConfig
from models.predictor import Predictor
from tests.models.small import JOINS, MODALITIES, sequence_model, static_model

EVERY = (
    *MODALITIES,
    ModalityConfig(name="depth", likelihood="laplace", scale="predicted"),
    ModalityConfig(name="calls", shape=(2,), likelihood="poisson"),
    ModalityConfig(name="reads", shape=(2,), likelihood="negative_binomial", scale="predicted"),
)
NUMBERS = {"audio": (3,), "depth": (), "calls": (2,), "reads": (2,)}
NAMES = [modality.name for modality in EVERY]
AUDIO = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)
LENGTHS = np.array([5, 2, 4])
VALID = np.arange(5) < LENGTHS[:, None]
GIVEN = {"audio": AUDIO}, {"audio": VALID}, LENGTHS


def _predictor(**options: Any) -> Predictor:
    return Predictor(sequence_model(EVERY, **options))


@pytest.mark.parametrize("recurrence", ["gru", "lstm"])
@pytest.mark.parametrize("join", JOINS)
def test_the_first_step_of_a_mean_forecast_decodes_the_prior_s_mean(join: dict[str, str], recurrence: str) -> None:
    model = sequence_model(EVERY, **join, recurrence=recurrence, recurrent_layers=2)
    predictor = Predictor(model)
    forecast = predictor.forecast(*GIVEN, 3, NAMES, n_samples=0)
    state = torch.from_numpy(predictor.encode(*GIVEN).state)
    hidden = model.recurrence.output(state)
    code = torch.cat([gaussian.from_raw(model.prior(hidden)).mean, hidden], dim=1)
    for name in NAMES:
        expected = model.describe(name, model.decoded(name, code).unsqueeze(0))
        for key, value in expected.items():
            np.testing.assert_allclose(forecast[name][key][:, 0], value.detach(), atol=1e-5)


def test_later_steps_depend_on_generated_steps() -> None:
    """A mean forecast is the reconstruction of a sequence that goes on as forecast, along the prior's means."""
    model = sequence_model(EVERY)
    predictor = Predictor(model)
    forecast = predictor.forecast(*GIVEN, 2, NAMES, n_samples=0)
    state = torch.from_numpy(predictor.encode(*GIVEN).state)
    hidden = model.recurrence.output(state)
    code = gaussian.from_raw(model.prior(hidden)).mean
    features = []
    for name in model.index:
        described = {key: torch.from_numpy(value[:, 0]) for key, value in forecast[name].items()}
        features.append(model.encoded(name, model.likelihood(name).fill(described)).unsqueeze(1))
    everywhere = torch.ones(3, 1, dtype=torch.bool)
    seen = model.fusion(features, [everywhere] * len(features), everywhere)[:, 0]
    hidden = model.recurrence.output(model.recurrence.step(model.recurrence.prepare(seen), code, state))
    code = torch.cat([gaussian.from_raw(model.prior(hidden)).mean, hidden], dim=1)
    expected = model.describe("audio", model.decoded("audio", code).unsqueeze(0))["mean"]
    np.testing.assert_allclose(forecast["audio"]["mean"][:, 1], expected.detach(), atol=1e-5)


@pytest.mark.parametrize("n_samples", [0, 9])
def test_a_forecast_follows_from_its_seed(n_samples: int) -> None:
    predictor = _predictor()
    one, again, other = (predictor.forecast(*GIVEN, 4, NAMES, n_samples, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    assert np.allclose(one["audio"]["mean"], other["audio"]["mean"]) == (n_samples == 0)


@pytest.mark.parametrize("n_samples", [0, 9])
@pytest.mark.parametrize("how", ["filter", "smooth"])
def test_a_row_s_forecast_does_not_depend_on_the_other_rows_or_on_padding(how: str, n_samples: int) -> None:
    predictor = _predictor(inference=how)
    together = predictor.forecast(*GIVEN, 3, NAMES, n_samples, seed=3)
    for row, length in enumerate(LENGTHS):
        alone = predictor.forecast(
            {"audio": AUDIO[row : row + 1, :length]},
            {"audio": VALID[row : row + 1, :length]},
            None,
            3,
            NAMES,
            n_samples,
            3,
        )
        of_row = {name: {key: v[row : row + 1] for key, v in answer.items()} for name, answer in together.items()}
        torch.testing.assert_close(alone, of_row, rtol=0, atol=1e-4)


def test_forecasts_have_a_quantile_axis_only_for_numbers_and_counts() -> None:
    levels = (0.1, 0.5, 0.75, 0.9)
    forecast = _predictor().forecast(*GIVEN, 4, NAMES, n_samples=50, quantiles=levels)
    for name, shape in NUMBERS.items():
        quantiles = forecast[name]["quantiles"]
        assert quantiles.shape == (3, 4, *shape, 4)
        assert (np.diff(quantiles, axis=-1) >= 0).all()
        assert (quantiles[..., -1] > quantiles[..., 0]).any()
    for name in ("face", "word"):
        assert "quantiles" not in forecast[name]
    assert "quantiles" not in _predictor().forecast(*GIVEN, 4, ["audio"], n_samples=0)["audio"]
    assert forecast["word"]["probabilities"].shape == (3, 4, 4)


def test_quantiles_and_moments_of_a_first_step_are_of_one_distribution() -> None:
    forecast = Predictor(sequence_model()).forecast(
        *GIVEN, 1, ["audio"], n_samples=8000, quantiles=(0.1587, 0.5, 0.8413)
    )["audio"]
    low, middle, high = np.moveaxis(forecast["quantiles"], -1, 0)
    np.testing.assert_allclose(middle, forecast["mean"], atol=0.06)
    np.testing.assert_allclose((high - low) / 2, forecast["standard_deviation"], atol=0.06)


def test_samples_of_sequences_have_values_beside_their_distributions() -> None:
    predictor = _predictor()
    sampled = predictor.sample(4, 6, seed=1)
    for name, shape in {**NUMBERS, "face": (1, 2, 2), "word": ()}.items():
        assert sampled[name]["value"].shape == (4, 6, *shape)
    assert sampled["word"]["probabilities"].shape == (4, 6, 4)
    assert set(np.unique(sampled["face"]["value"])) <= {0.0, 1.0}
    assert (sampled["calls"]["value"] == sampled["calls"]["value"].round()).all()
    torch.testing.assert_close(sampled, predictor.sample(4, 6, seed=1), rtol=0, atol=0)
    assert not np.allclose(sampled["audio"]["value"], predictor.sample(4, 6, seed=2)["audio"]["value"])


def test_samples_have_values_beside_their_distributions() -> None:
    predictor = Predictor(static_model(EVERY))
    sampled = predictor.sample(4, seed=1)
    for name, shape in {**NUMBERS, "face": (1, 2, 2), "word": ()}.items():
        assert sampled[name]["value"].shape == (4, *shape)
    torch.testing.assert_close(sampled, predictor.sample(4, seed=1), rtol=0, atol=0)
    assert not np.allclose(sampled["audio"]["value"], predictor.sample(4, seed=2)["audio"]["value"])


def test_samples_of_a_linear_gaussian_model_have_its_covariance() -> None:
    modality = ModalityConfig(name="a", shape=(3,), likelihood="gaussian", scale=0.5)
    model = static_model([modality], network={"name": "mlp", "hidden_features": ()})
    value = Predictor(model).sample(40_000)["a"]["value"]
    weight = model.decoders[0][0].weight.detach().numpy()
    np.testing.assert_allclose(np.cov(value.T), weight @ weight.T + 0.25 * np.eye(3), atol=0.02)
    np.testing.assert_allclose(value.mean(axis=0), model.decoders[0][0].bias.detach().numpy(), atol=0.02)


def test_sequences_and_samples_refuse_each_other_s_calls() -> None:
    samples, sequences = Predictor(static_model()), Predictor(sequence_model())
    of_samples = {"audio": AUDIO[:, 0]}, {"audio": VALID[:, 0]}
    with pytest.raises(BatchError, match="samples have no time steps to forecast"):
        samples.forecast(*of_samples, None, 3, ["audio"])
    with pytest.raises(BatchError, match="steps is 3 for a model of static data"):
        samples.sample(2, 3)
    with pytest.raises(BatchError, match="steps is None for a model of sequence data"):
        sequences.sample(2)
    with pytest.raises(BatchError):
        samples.encode(*GIVEN)
    with pytest.raises(BatchError):
        sequences.encode(*of_samples)
    with pytest.raises(BatchError, match="targets has smell"):
        sequences.forecast(*GIVEN, 3, ["smell"])
