"""The training loop: reproducible, learning, and clear about what stops it."""

import numpy as np
import pytest
import torch

from models.config import (
    ConstantBeta,
    CyclicalBeta,
    MLPConfig,
    MMVAEConfig,
    MMVAEOptions,
    MMVRNNConfig,
    MMVRNNOptions,
    TrainingConfig,
    complete,
)
from models.synthetic import quadratic_sinusoidal, spirals
from service.shared.samples import ModalitySchema, Samples, Schema
from tests.worker.test_data import modalities, static_samples
from worker.data import UnusableData
from worker.loop import Epoch, Event, Finished, Started, TrainingDiverged, fit

SMALL = TrainingConfig(epochs=3, batch_size=20)
TWO = tuple(ModalitySchema(name=name, shape=(2,), dtype="float32") for name in ("m1", "m2"))


def _samples(rows: int = 100, scale: float = 1.0) -> Samples:
    values = {name: value * scale for name, value in quadratic_sinusoidal(rows, seed=0).items()}
    present = {name: np.random.default_rng(1).random(rows) < 0.9 for name in values}
    present["m2"] |= ~present["m1"]
    return Samples(Schema(kind="static", modalities=TWO), rows, values, present)


def _sequences(rows: int = 40, steps: int = 6) -> Samples:
    values = {name: value.reshape(-1, 2) for name, value in spirals(rows, steps, seed=0).items()}
    present = {name: np.ones(rows * steps, dtype=bool) for name in values}
    return Samples(Schema(kind="sequence", modalities=TWO), rows, values, present, np.arange(rows + 1) * steps)


def _config(kind: str = "static") -> MMVAEConfig | MMVRNNConfig:
    options = MMVAEOptions if kind == "static" else MMVRNNOptions
    members = [modalities()[0].model_copy(update={"name": name}) for name in ("m1", "m2")]
    return complete(options(network=MLPConfig(hidden_features=(8,))), members)


def _events(samples: Samples, training: TrainingConfig = SMALL, seed: int = 0) -> list[Event]:
    return list(fit(_config(samples.schema.kind), training, samples, seed=seed))


def _weights(events: list[Event]) -> dict[str, torch.Tensor]:
    last = events[-1]
    assert isinstance(last, Finished)
    return last.model.state_dict()


@pytest.mark.parametrize("samples", [_samples(), _sequences()])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(samples: Samples) -> None:
    first, again, other = (_weights(_events(samples, seed=seed)) for seed in (0, 0, 1))
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
    assert any(not torch.equal(weight, other[name]) for name, weight in first.items())


def test_what_is_reported_is_a_start_every_epoch_and_the_end() -> None:
    started, *epochs, finished = _events(_samples())
    assert isinstance(started, Started)
    assert (started.train_rows, started.validation_rows, started.steps) == (90, 10, 15)
    assert [event.epoch for event in epochs if isinstance(event, Epoch)] == [1, 2, 3]
    assert isinstance(finished, Finished)
    assert {"loss", "kl", "beta", "reconstruction/m1", "validation_loss"} <= set(finished.metrics)
    assert not finished.model.training


@pytest.mark.parametrize("samples", [_samples(), _sequences()])
def test_the_loss_of_a_fixed_objective_falls(samples: Samples) -> None:
    training = TrainingConfig(epochs=20, batch_size=20, beta=ConstantBeta(value=0.1))
    losses = [event.metrics["loss"] for event in _events(samples, training) if isinstance(event, Epoch)]
    assert losses[-1] < losses[0]


def test_the_loss_of_a_sequence_model_is_of_present_steps_alone() -> None:
    samples = _sequences()
    half = {name: np.arange(len(mask)) % 2 == 0 for name, mask in samples.present.items()}
    fewer = Samples(samples.schema, samples.rows, samples.values, half, samples.offsets)
    _, whole, *_ = _events(samples)
    _, part, *_ = _events(fewer)
    assert isinstance(whole, Epoch)
    assert isinstance(part, Epoch)
    ratio = part.metrics["reconstruction/m1"] / whole.metrics["reconstruction/m1"]
    assert 0.35 < ratio < 0.65


def test_asked_to_stop_it_ends_without_a_model() -> None:
    asked = iter([False] * 7 + [True] * 100)
    events = list(fit(_config(), SMALL, _samples(), seed=0, should_stop=lambda: next(asked)))
    assert isinstance(events[-1], Epoch)
    assert events[-1].epoch == 1


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_loss_that_is_no_number_stops_with_its_step() -> None:
    samples = _samples()
    samples.values["m1"][0] = np.inf
    with pytest.raises(TrainingDiverged, match=r"the loss is nan at step \d+ of 15"):
        _events(samples)


def test_too_few_rows_are_refused_before_anything_is_built() -> None:
    with pytest.raises(UnusableData, match="expected at least one batch of 20"):
        list(fit(complete(MMVAEOptions(), modalities()), SMALL, static_samples(5), seed=0))


def test_dropout_hides_inputs_and_keeps_targets() -> None:
    """With all inputs but one hidden in every row, every modality still has a reconstruction term."""
    training = SMALL.model_copy(update={"modality_dropout": 1.0})
    _, epoch, *_ = _events(_samples(), training)
    assert isinstance(epoch, Epoch)
    assert epoch.metrics["reconstruction/m1"] != 0
    assert epoch.metrics["reconstruction/m2"] != 0


def test_standardisation_makes_units_indifferent() -> None:
    """A thousand times larger numbers give the same training, and predictions a thousand times larger."""
    small, large = (_events(_samples(scale=scale), seed=4)[-1] for scale in (1.0, 1024.0))
    assert isinstance(small, Finished)
    assert isinstance(large, Finished)
    assert small.metrics["kl"] == pytest.approx(large.metrics["kl"], rel=1e-3)
    for name, weight in small.model.encoders.state_dict().items():
        torch.testing.assert_close(weight, large.model.encoders.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_fewer_steps_than_cycles_are_refused_before_anything_is_built() -> None:
    training = SMALL.model_copy(update={"beta": CyclicalBeta(cycles=16)})
    with pytest.raises(UnusableData, match="16 cycles in 15 steps"):
        list(fit(_config(), training, _samples(), seed=0))


@pytest.mark.parametrize("expert", ["weighted_product", "mixture", "mixture_of_products"])
def test_every_expert_learns(expert: str) -> None:
    config = _config().model_copy(update={"expert": expert})
    training = TrainingConfig(epochs=20, batch_size=20, beta=ConstantBeta(value=0.1))
    losses = [event.metrics["loss"] for event in fit(config, training, _samples(), seed=0) if isinstance(event, Epoch)]
    assert losses[-1] < losses[0]
