"""Datasets in which elements of a value are absent: statistics, training, calibration and evaluation."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import models
from models.architectures import Model, build
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig, TrainingConfig
from models.likelihoods.widening import Widening
from models.ops.philox import Draws
from models.training import checks, data
from models.training.checks import UnusableData
from models.training.dataset import Dataset, Modality
from models.training.evaluate import evaluate
from models.training.evaluation.matrix import DRAWS, NOISE
from models.training.events import Epoch, Finished, Started
from models.training.loop import fit

TRAINING = TrainingConfig(epochs=2, batch_size=20, validation_rows=tuple(range(120)))
STEPS = 3
MODALITIES = (
    ModalityConfig(name="face", shape=(1, 2, 2), likelihood="bernoulli"),
    ModalityConfig(name="image", shape=(2, 2, 1), likelihood="laplace"),
    ModalityConfig(name="visits", shape=(2,), likelihood="poisson"),
    ModalityConfig(name="voice", shape=(3,), likelihood="gaussian"),
    ModalityConfig(name="word", categories=3, likelihood="categorical"),
)
MASKED = ("face", "image", "visits", "voice")


def _dataset(kind: str, garbage: float = 0.0, chance: float = 0.7, rows: int = 200) -> Dataset:
    """Each element of each value present by chance; row 0 has no voice at all, pixel 0 of the image is never there."""
    generator = np.random.default_rng(0)
    steps = rows * (STEPS if kind == "sequence" else 1)
    code = generator.normal(size=(steps, 1))
    values: dict[str, NDArray[Any]] = {
        "face": (code + generator.normal(size=(steps, 4)) > 0).reshape(steps, 1, 2, 2),
        "image": (20 + code + generator.normal(size=(steps, 4))).reshape(steps, 2, 2, 1),
        "visits": generator.poisson(np.exp(1 + 0.3 * code + np.zeros(2))),
        "voice": 5 + 2 * code + 0.3 * generator.normal(size=(steps, 3)),
        "word": generator.integers(0, 3, steps),
    }
    present = {name: generator.random(values[name].shape) < chance for name in MASKED}
    present["voice"][: STEPS if kind == "sequence" else 1] = False
    present["image"][:, 0, 0] = False
    stored = {name: value.astype(np.int64 if name == "word" else np.float32) for name, value in values.items()}
    for name in MASKED:
        stored[name][~present[name]] = garbage
    offsets = np.arange(rows + 1) * STEPS if kind == "sequence" else None
    described = tuple(Modality(one.name, one.shape, one.categories) for one in MODALITIES)
    present["word"] = np.ones(steps, bool)
    return Dataset(kind, described, rows, stored, present, offsets)  # type: ignore[arg-type]


def _config(kind: str) -> MMVAEConfig | MMVRNNConfig:
    chosen = {"modalities": MODALITIES, "latent_features": 3, "network": MLPConfig(hidden_features=(8,))}
    return MMVAEConfig(**chosen) if kind == "static" else MMVRNNConfig(**chosen)  # type: ignore[arg-type]


def _trained(kind: str, dataset: Dataset, **options: Any) -> tuple[dict[str, float], Finished]:
    training = TrainingConfig.model_validate({**TRAINING.model_dump(), **options})
    *events, last = fit(_config(kind), dataset, training, seed=0)
    assert isinstance(last, Finished)
    found = {}
    for event in events:
        if isinstance(event, Epoch):
            found |= {f"{event.epoch}/{name}": value for name, value in event.metrics.items()}
    return found, last


@pytest.mark.parametrize("objective", ["elbo", "subsampled_elbo", "iwae"])
@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_a_training_never_reads_the_numbers_of_absent_elements(kind: str, objective: str) -> None:
    plain, garbage = _dataset(kind), _dataset(kind, math.nan)
    expected, last = _trained(kind, plain, objective={"name": objective})
    found, other = _trained(kind, garbage, objective={"name": objective})
    assert found == expected
    assert all(map(math.isfinite, found.values()))
    for name, weight in last.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], weight), name
    if objective == "elbo":
        reports = [
            evaluate(one.model, of, one.train_rows, one.validation_rows, 1)
            for one, of in ((last, plain), (other, garbage))
        ]
        assert reports[0] == reports[1]
        assert last.model.likelihood("voice").state_dict()["widening.logarithm"].any()


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_masks_of_all_elements_train_the_same_weights_as_masks_of_values(kind: str) -> None:
    whole = _dataset(kind, chance=2.0)
    whole.present["image"][:] = True
    whole = replace(whole, present={**whole.present, "voice": np.ones_like(whole.present["voice"])})
    of_values = replace(whole, present={name: np.ones(len(mask), bool) for name, mask in whole.present.items()})
    (found, last), (expected, other) = _trained(kind, whole), _trained(kind, of_values)
    assert found == pytest.approx(expected, rel=1e-4)
    for name, weight in other.model.state_dict().items():
        torch.testing.assert_close(last.model.state_dict()[name], weight, rtol=1e-3, atol=1e-3, msg=name)


def test_arrays_may_hold_anything_in_absent_places() -> None:
    values = {"a": np.array([[1.0, math.nan], [math.inf, 4.0]]), "b": np.array([math.nan, 2.0])}
    present = {"a": np.array([[True, False], [False, True]]), "b": np.array([False, True])}
    dataset = Dataset.from_arrays(values, present=present)
    assert dataset.values["a"].tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert dataset.values["b"].tolist() == [0.0, 2.0]
    padded = {"a": np.array([[[1.0, math.nan], [9.0, 9.0]], [[3.0, 4.0], [math.nan, 6.0]]])}
    masks = {"a": np.isfinite(padded["a"])}
    packed = Dataset.from_arrays(padded, "sequence", masks, np.array([1, 2]))
    assert packed.values["a"].tolist() == [[1.0, 0.0], [3.0, 4.0], [0.0, 6.0]]
    assert packed.present["a"].tolist() == [[True, False], [True, True], [False, True]]


def _by_hand() -> Dataset:
    values = {"a": np.array([[1.0, 10.0], [3.0, 0.0], [0.0, 0.0], [8.0, 30.0]])}
    present = {"a": np.array([[True, True], [True, False], [False, False], [True, True]])}
    return Dataset.from_arrays(values, present=present)


def _model(*modalities: ModalityConfig) -> Model:
    return build(MMVAEConfig(modalities=modalities, latent_features=2, network=MLPConfig(hidden_features=(4,)))).eval()


A = ModalityConfig(name="a", shape=(2,), likelihood="gaussian")


def test_statistics_and_counts_are_of_the_present_elements() -> None:
    dataset = _by_hand()
    mean, deviation = data.statistics(dataset, _model(A), np.arange(4))["a"]
    assert mean.tolist() == [4.0, 20.0]
    assert deviation.tolist() == pytest.approx([math.sqrt((9 + 1 + 16) / 3), 10.0])
    assert data.observed_values_per_row(dataset) == 5 / 4
    assert data.rows_with_all(dataset, ["a"]).tolist() == [True, True, False, True]
    assert data.rows_with_any(dataset, ["a"]).tolist() == [True, True, False, True]
    batch = data.batch_of(dataset, np.array([1, 2]))
    assert batch.present["a"].tolist() == [[True, False], [False, False]]
    assert batch.observed("a").tolist() == [True, False]


def test_an_element_that_is_never_present_has_the_others_statistics() -> None:
    dataset = _by_hand()
    dataset.present["a"][:, 1] = False
    mean, deviation = data.statistics(dataset, _model(A), np.arange(4))["a"]
    assert mean.tolist() == [4.0, 4.0]
    assert deviation[0] == deviation[1]


def test_the_support_is_checked_where_elements_are_present() -> None:
    dataset, counts = _by_hand(), ModalityConfig(name="a", shape=(2,), likelihood="poisson")
    training = TrainingConfig(batch_size=1, validation_fraction=0)
    dataset.present["a"][2] = [True, False]
    dataset.values["a"][1, 1] = -0.5
    config = MMVAEConfig(modalities=(counts,))
    checks.check(dataset, config, training)
    dataset.values["a"][1, 0] = -0.5
    with pytest.raises(UnusableData, match=r"'a' is poisson and has -0.5 at row 1"):
        checks.check(dataset, config, training)


def test_a_row_without_any_element_is_refused() -> None:
    with pytest.raises(UnusableData, match=r"1 rows have none of the modalities a, .* the first is row 2"):
        checks.check(_by_hand(), MMVAEConfig(modalities=(A,)), TrainingConfig(batch_size=1, validation_fraction=0))


def test_the_start_of_a_training_reports_that_kernels_do_not_support_masks_of_elements() -> None:
    dataset = _by_hand()
    dataset.present["a"][2] = True
    for masks in (True, False):
        given = dataset if masks else replace(dataset, present={"a": np.ones(4, bool)})
        training = TrainingConfig(epochs=1, batch_size=2, validation_fraction=0)
        config = MMVAEConfig(modalities=(A,), network=MLPConfig(hidden_features=(4,)))
        started = next(iter(fit(config, given, training, seed=0)))
        assert isinstance(started, Started)
        reasons = {one.operation: one.reason or "" for one in started.kernels}
        assert ("mask per element" in reasons["elbo"]) == masks


def test_the_evaluation_s_figures_are_those_computed_by_hand() -> None:
    """Of a target given the other modality: root mean squared error, baseline, log-likelihood and coverage."""
    generator = np.random.default_rng(3)
    code = generator.normal(size=(60, 1))
    values = {"a": 3 * code + generator.normal(size=(60, 2)), "b": code + 0.1 * generator.normal(size=(60, 2))}
    present = {"a": generator.random((60, 2)) < 0.6, "b": np.ones(60, bool)}
    dataset = Dataset.from_arrays(values, present=present)
    model = _model(A, A.model_copy(update={"name": "b"}))
    train, held_out = np.arange(40), np.arange(40, 60)
    model.set_statistics(data.statistics(dataset, model, train))
    report = evaluate(model, dataset, train, held_out, seed=0)
    found = next(one for one in report["matrix"] if (one["observed"], one["target"]) == (["b"], "a"))

    mask, truth = dataset.present["a"][held_out], dataset.values["a"][held_out]
    given = {"b": dataset.values["b"][held_out]}, {"b": np.ones(20, bool)}
    mean = models.Predictor(model).reconstruct(*given, None, ["a"])["a"]["mean"]
    assert found["values"] == mask.any(axis=1).sum()
    assert found["error"] == pytest.approx(np.sqrt(np.square(mean - truth)[mask].mean()), rel=1e-5)
    of_training = np.ma.masked_array(dataset.values["a"][train], ~dataset.present["a"][train])
    constant = np.asarray(of_training.mean(axis=0))
    assert found["baseline_error"] == pytest.approx(np.sqrt(np.square(constant - truth)[mask].mean()), rel=1e-5)

    # the same draws as the evaluation: with them, density and interval of each present element
    noise = Draws(0, 0, NOISE).normal(held_out, DRAWS, 2).movedim(1, 0)
    batch = data.batch_of(dataset, held_out)
    inputs = models.Batch({"b": batch.values["b"]}, {"b": batch.present["b"]})
    with torch.no_grad():
        raw = model.decode(inputs, ["a"], noise)["a"]
    likelihood = model.likelihood("a")
    location = likelihood.offset + likelihood.scale * raw
    density = torch.distributions.Normal(location, likelihood.scale * likelihood.moment.sqrt()).log_prob(
        torch.from_numpy(truth)
    )
    of_draws = torch.where(torch.from_numpy(mask), density, 0.0).sum(dim=-1)  # (S, B)
    expected = (of_draws.logsumexp(dim=0) - math.log(DRAWS))[torch.from_numpy(mask.any(axis=1))].mean().item()
    assert found["log_likelihood"] == pytest.approx(expected, rel=1e-4)
    described = likelihood.describe(raw)
    inside = (described["mean"] - torch.from_numpy(truth)).abs() <= 1.6448536 * described["standard_deviation"]
    assert found["coverage_90"] == pytest.approx(inside.numpy()[mask].mean())


def test_calibration_is_of_the_errors_that_are_known() -> None:
    """Each feature's curve is the one of a feature alone with its known errors; garbage elsewhere changes nothing."""
    torch.manual_seed(0)
    deviation, error = torch.rand(2, 500, 2) + 0.5, torch.rand(2, 500, 2)
    mask, absence = torch.rand(500, 2) < 0.5, torch.ones(500, dtype=torch.int64)
    garbage = torch.where(mask, error, math.nan)
    both = Widening((2,))
    both.fit(deviation, garbage, absence, mask)
    for feature in (0, 1):
        one, known = Widening((1,)), mask[:, feature]
        one.fit(deviation[:, known, feature : feature + 1], error[:, known, feature : feature + 1], absence[known])
        assert torch.equal(both.logarithm[..., feature], one.logarithm[..., 0])
        assert torch.equal(both.at[..., feature], one.at[..., 0])


def test_features_with_few_known_errors_share_one_curve() -> None:
    torch.manual_seed(0)
    deviation, error = torch.rand(2, 150, 2) + 0.5, torch.rand(2, 150, 2)
    mask, absence = torch.ones(150, 2, dtype=torch.bool), torch.ones(150, dtype=torch.int64)
    mask[30:, 1] = False
    both, pooled = Widening((2,)), Widening((1,))
    both.fit(deviation, error, absence, mask)
    pooled.fit(deviation[:, mask].unsqueeze(-1), error[:, mask].unsqueeze(-1), torch.ones(180, dtype=torch.int64))
    assert torch.equal(both.logarithm, pooled.logarithm.expand_as(both.logarithm))
    assert both.logarithm.any()
