"""The training loop: reproducible, learning, and clear about what stops it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.config import (
    ConstantBeta,
    CyclicalBeta,
    EarlyStopping,
    MMVAEConfig,
    MMVAEOptions,
    MMVRNNConfig,
    TrainingConfig,
    complete,
)
from models.multimodal import Parts
from models.training.checks import UnusableData
from models.training.dataset import Dataset
from models.training.events import Checkpoint, Epoch, Event, Finished, Started
from models.training.loop import TrainingDiverged, fit
from tests.models.training.small import sequences, static, two, unrelated_bound
from tests.models.training.test_data import modalities, static_samples

SMALL = TrainingConfig(epochs=3, batch_size=20)
# Long enough to be better than a model that takes nothing from its inputs, which costs `unrelated_bound`.
LEARNING = TrainingConfig(epochs=20, batch_size=20, beta=ConstantBeta(value=0.1), learning_rate=0.01)


def _events(samples: Dataset, training: TrainingConfig = SMALL, seed: int = 0) -> list[Event]:
    return list(fit(two(samples.kind), samples, training, seed=seed))


class Exploding(nn.Module):
    """An encoder whose output is no number after so many calls."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps
        self.linear = nn.Linear(2, 32)

    def forward(self, value: Tensor) -> Tensor:
        self.left -= 1
        encoded: Tensor = self.linear(value)
        return encoded if self.left >= 0 else encoded * math.nan


def _last_loss(config: MMVAEConfig | MMVRNNConfig, training: TrainingConfig, samples: Dataset) -> float:
    """Of the last epoch, in nats a row."""
    losses = [event.metrics["loss"] for event in fit(config, samples, training, seed=0) if isinstance(event, Epoch)]
    return losses[-1]


def _weights(events: list[Event]) -> dict[str, torch.Tensor]:
    last = events[-1]
    assert isinstance(last, Finished)
    return last.model.state_dict()


@pytest.mark.parametrize("samples", [static(), sequences()])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(samples: Dataset) -> None:
    first, again, other = (_weights(_events(samples, seed=seed)) for seed in (0, 0, 1))
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
    assert any(not torch.equal(weight, other[name]) for name, weight in first.items())


def test_what_is_reported_is_a_start_every_epoch_and_the_end() -> None:
    started, *epochs, finished = _events(static())
    assert isinstance(started, Started)
    assert (started.train_rows, started.validation_rows, started.steps) == (90, 10, 15)
    assert [event.epoch for event in epochs if isinstance(event, Epoch)] == [1, 2, 3]
    assert isinstance(finished, Finished)
    assert {"loss", "kl", "beta", "reconstruction/m1", "validation_loss"} <= set(finished.metrics)
    assert not finished.model.training


@pytest.mark.parametrize("samples", [static(), sequences()])
def test_the_loss_of_a_fixed_objective_falls(samples: Dataset) -> None:
    assert _last_loss(two(samples.kind), LEARNING, samples) < unrelated_bound(samples) - 1


SPREAD = 0.3


def _blind(kind: str) -> tuple[MMVAEConfig | MMVRNNConfig, Parts]:
    """A model whose decoders answer the data's mean, whatever the latent is, with the deviation SPREAD."""
    config = two(kind, modalities={"m1": {"scale": SPREAD}, "m2": {"scale": SPREAD}})
    features = config.latent_features + (config.recurrent_features if isinstance(config, MMVRNNConfig) else 0)
    decoders = {name: nn.Linear(features, 2) for name in ("m1", "m2")}
    for decoder in decoders.values():
        nn.init.zeros_(decoder.weight)
        nn.init.zeros_(decoder.bias)
    return config, Parts(decoders=decoders)


def _cost(samples: Dataset, name: str) -> float:
    """Nats a row of N(mean of the present values, SPREAD^2)."""
    given = samples.values[name][samples.present[name]].astype(np.float64)
    density = 0.5 * ((given - given.mean(axis=0)) / SPREAD) ** 2 + math.log(SPREAD) + 0.5 * math.log(2 * math.pi)
    return float(density.sum()) / samples.rows


STILL = {"epochs": 1, "batch_size": 20, "learning_rate": 1e-30, "validation_fraction": 0.0}


def test_the_loss_of_a_sequence_model_is_of_present_steps_alone() -> None:
    samples = sequences()
    half = {name: np.arange(len(mask)) % 2 == 0 for name, mask in samples.present.items()}
    fewer = Dataset(samples.kind, samples.modalities, samples.rows, samples.values, half, samples.offsets)
    for data in (samples, fewer):
        config, parts = _blind("sequence")
        _, epoch, *_ = fit(config, data, TrainingConfig.model_validate(STILL), seed=0, parts=parts)
        assert isinstance(epoch, Epoch)
        for name in ("m1", "m2"):
            assert epoch.metrics[f"reconstruction/{name}"] == pytest.approx(_cost(data, name), rel=1e-5)


def test_asked_to_stop_it_ends_with_a_checkpoint_and_no_model() -> None:
    asked = iter([False] * 7 + [True] * 100)
    *_, epoch, checkpoint = fit(two(), static(), SMALL, seed=0, should_stop=lambda: next(asked))
    assert isinstance(epoch, Epoch)
    assert epoch.epoch == 1
    assert isinstance(checkpoint, Checkpoint)
    assert (checkpoint.state.step, checkpoint.reason) == (7, "stopped")


def test_a_loss_that_is_no_number_stops_with_its_step_and_the_last_good_state() -> None:
    parts = Parts(encoders={"m1": Exploding(steps=7)})
    events: list[Event] = []
    every = fit(two(), static(), SMALL.model_copy(update={"validation_fraction": 0.0}), seed=0, parts=parts)
    with pytest.raises(TrainingDiverged, match=r"at step 8 of 15 .*step 7 is the last good one.*learning_rate"):
        events.extend(every)  # keeps what came before the error
    last = events[-1]
    assert isinstance(last, Checkpoint)
    assert (last.reason, last.state.step) == ("diverged", 7)
    assert all(weight.isfinite().all() for weight in last.state.weights.values())


def test_too_few_rows_are_refused_before_anything_is_built() -> None:
    with pytest.raises(UnusableData, match="expected at least one batch of 20"):
        list(fit(complete(MMVAEOptions(), modalities()), static_samples(5), SMALL, seed=0))


def test_dropout_hides_inputs_and_keeps_targets() -> None:
    """With all inputs but one hidden in every row, every present value still counts."""
    config, parts = _blind("static")
    training = TrainingConfig.model_validate({**STILL, "modality_dropout": 1.0})
    _, epoch, *_ = fit(config, static(), training, seed=0, parts=parts)
    assert isinstance(epoch, Epoch)
    for name in ("m1", "m2"):
        assert epoch.metrics[f"reconstruction/{name}"] == pytest.approx(_cost(static(), name), rel=1e-5)


def test_standardisation_makes_units_indifferent() -> None:
    """A thousand times larger numbers give the same training, and predictions a thousand times larger."""
    small, large = (_events(static(scale=scale), seed=4)[-1] for scale in (1.0, 1024.0))
    assert isinstance(small, Finished)
    assert isinstance(large, Finished)
    assert small.metrics["kl"] == pytest.approx(large.metrics["kl"], rel=1e-3)
    for name, weight in small.model.encoders.state_dict().items():
        torch.testing.assert_close(weight, large.model.encoders.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_fewer_steps_than_cycles_are_refused_before_anything_is_built() -> None:
    training = SMALL.model_copy(update={"beta": CyclicalBeta(cycles=16)})
    with pytest.raises(UnusableData, match=r"beta\.cycles: is 16, and the training has 15 steps"):
        list(fit(two(), static(), training, seed=0))


@pytest.mark.parametrize("expert", ["weighted_product", "mixture", "mixture_of_products", "hellinger"])
def test_every_expert_learns(expert: str) -> None:
    config = two().model_copy(update={"expert": expert})
    assert _last_loss(config, LEARNING, static()) < unrelated_bound(static()) - 1


@pytest.mark.parametrize("objective", [{"name": "subsampled_elbo"}, {"name": "iwae", "particles": 3}])
@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_every_objective_learns(objective: dict[str, object], kind: str) -> None:
    training = TrainingConfig.model_validate({**LEARNING.model_dump(), "objective": objective})
    samples = static() if kind == "static" else sequences()
    assert _last_loss(two(kind), training, samples) < unrelated_bound(samples) - 1


def test_half_precision_learns_too() -> None:
    """bfloat16 on a CPU is slow and exists for this test; on a card it is what it is for."""
    for kind, samples in (("static", static()), ("sequence", sequences())):
        training = TrainingConfig.model_validate({**LEARNING.model_dump(), "precision": "bfloat16"})
        assert _last_loss(two(kind), training, samples) < unrelated_bound(samples) - 1


def test_the_result_is_the_best_epoch_on_held_out_rows_or_the_last() -> None:
    training = TrainingConfig(epochs=12, batch_size=20, learning_rate=0.2)  # too fast to get better all the way
    events = _events(static(), training)
    losses = [event.metrics["validation_loss"] for event in events if isinstance(event, Epoch)]
    best = events[-1]
    assert isinstance(best, Finished)
    assert best.epoch == 1 + int(np.argmin(losses))
    assert best.metrics["validation_loss"] == min(losses)
    last = _events(static(), training.model_copy(update={"select": "last"}))[-1]
    assert isinstance(last, Finished)
    assert last.epoch == 12


def test_training_stops_early_when_its_metric_gets_no_better() -> None:
    training = TrainingConfig(epochs=50, batch_size=20, early_stopping=EarlyStopping(patience=2, minimum_change=1e9))
    events = _events(static(), training)
    assert [event.epoch for event in events if isinstance(event, Epoch)] == [1, 2, 3]


def test_a_row_s_noise_and_masks_do_not_depend_on_the_batch_it_is_in() -> None:
    """Without optimiser steps in between, an epoch's mean loss is the same in batches of any size."""
    config = two(modalities={"m1": {"scale": 0.3}, "m2": {"scale": 0.3}})
    frozen = TrainingConfig(epochs=1, learning_rate=1e-30, batch_size=90)
    small, large = (
        next(
            e
            for e in fit(config, static(), frozen.model_copy(update={"batch_size": size}), seed=0)
            if isinstance(e, Epoch)
        )
        for size in (9, 90)
    )
    for name in ("validation_loss", "validation_kl", "validation_reconstruction/m1"):
        assert small.metrics[name] == pytest.approx(large.metrics[name], rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"modality_dropout": {"strategy": "number", "probability": 0.7}},
        {"modality_dropout": {"strategy": "independent", "probabilities": {"m1": 0.4}}},
        {"objective": {"name": "subsampled_elbo", "subsets": 1}},
        {},
    ],
)
def test_reading_ahead_changes_nothing(monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]) -> None:
    training = TrainingConfig.model_validate({**SMALL.model_dump(mode="json"), **changes})
    ahead = _weights(_events(static(), training))
    monkeypatch.setattr("models.training.prefetch.MAX_NUMBERS", 1)
    one_by_one = _weights(_events(static(), training))
    assert all(torch.equal(value, one_by_one[name]) for name, value in ahead.items())


def test_a_run_with_the_default_seed_and_the_deletion_mix_passes_the_step_of_its_largest_number() -> None:
    """At step 177 the generator gives row 60 a number that float32 rounds to 1."""
    last = list(range(61, 70))
    training = TrainingConfig.model_validate(
        {"epochs": 179, "batch_size": 61, "validation_rows": last, "deletion_mix": {}, "modality_dropout": 0.0}
    )
    *_, finished = _events(sequences(rows=70, steps=3), training)
    assert isinstance(finished, Finished)
    assert math.isfinite(finished.metrics["validation_loss"])


@pytest.mark.parametrize("samples", [static(12), sequences(12)], ids=["static", "sequence"])
def test_a_batch_may_be_a_single_row(samples: Dataset) -> None:
    *_, finished = _events(samples, TrainingConfig(epochs=2, batch_size=1))
    assert isinstance(finished, Finished)
    assert all(map(math.isfinite, finished.metrics.values()))


def test_an_error_in_a_step_notes_how_many_steps_were_done() -> None:
    class Breaking(Exploding):
        def forward(self, value: Tensor) -> Tensor:
            if not self.left:
                raise IndexError("7 of 7")
            return super().forward(value)

    parts = Parts(encoders={"m1": Breaking(steps=4)})
    with pytest.raises(IndexError, match="7 of 7") as broken:
        list(fit(two(), static(), SMALL.model_copy(update={"validation_fraction": 0.0}), seed=0, parts=parts))
    assert broken.value.__notes__ == ["after 4 of 15 steps"]
