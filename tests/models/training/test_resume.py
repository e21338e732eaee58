"""Interrupted and resumed equals uninterrupted, bit for bit."""

import copy
import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.training import state
from models.training.dataset import Dataset
from models.training.events import Checkpoint, Epoch, Event, Finished
from models.training.loop import fit
from models.training.state import TrainingState, UnusableState
from tests.models.training.small import sequences, static, two

Config = MMVAEConfig | MMVRNNConfig


def _training(**changes: object) -> TrainingConfig:
    plain = {
        "epochs": 4,
        "batch_size": 20,
        "early_stopping": {"patience": 3},
        "objective": {"name": "elbo"},
    }
    return TrainingConfig.model_validate(plain | changes)


def _interrupted(
    config: Config, training: TrainingConfig, samples: Dataset, steps: list[int], folder: Path
) -> Iterator[Event]:
    """Stop before each of these steps, write the state, read it back, go on; all events, of all parts."""
    resume: TrainingState | None = None
    for part, stop in enumerate([*steps, math.inf]):
        questions = itertools.count(resume.step if resume else 0)
        stops = map(functools.partial(operator.le, stop), questions)  # one answer for each step
        for event in fit(config, samples, training, seed=3, should_stop=stops.__next__, resume_from=resume):
            if isinstance(event, Checkpoint):
                path = folder / str(part)
                state.save(event.state, path)
                resume = state.load(path)
            else:
                yield event


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (two(), {}),
        (two(network={"hidden_features": [8], "dropout": 0.3}), {"optimiser": "adam"}),
        (two(expert="mixture"), {"objective": {"name": "iwae", "particles": 2}}),
        (two("sequence"), {"burst_deletion": {"probability": 0.5}, "objective": {"name": "subsampled_elbo"}}),
        (two("sequence", inference="smooth", recurrence="lstm"), {"select": "last"}),
        (two(), {"weight_average": 0.9}),
        (
            two("sequence", inference="smooth", static_latent_features=3),
            {"weight_average": 0.9, "deletion_mix": {}, "select_metric": "validation_profile"},
        ),
        (two("sequence"), {"weight_average": 0.5, "select": "last"}),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    config: Config, changes: dict[str, object], tmp_path: Path
) -> None:
    samples = static() if config.kind == "static" else sequences()
    training = _training(**changes)
    whole = list(fit(config, samples, training, seed=3))
    per_epoch = next(event.step for event in whole if isinstance(event, Epoch))
    stops = [1, per_epoch, 2 * per_epoch + 1]
    pieces = list(_interrupted(config, training, samples, stops, tmp_path))

    assert [e for e in pieces if isinstance(e, Epoch)] == [e for e in whole if isinstance(e, Epoch)]
    ended, resumed = whole[-1], pieces[-1]
    assert isinstance(ended, Finished)
    assert isinstance(resumed, Finished)
    assert ended.epoch == resumed.epoch
    for name, weight in ended.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_checkpoints_come_at_intervals_and_at_the_epochs_that_are_to_be_kept() -> None:
    training = _training(checkpoint_epochs=2)
    events = list(fit(two(), static(), training, seed=0))
    kept = [event for event in events if isinstance(event, Checkpoint)]
    assert [(event.reason, event.state.step) for event in kept] == [("epoch", 10), ("epoch", 20)]
    every = list(fit(two(), static(), _training(), seed=0, checkpoint_seconds=0.0))
    assert {event.reason for event in every if isinstance(event, Checkpoint)} == {"interval"}


def test_a_state_of_another_training_is_refused() -> None:
    first = next(
        event
        for event in fit(two(), static(), _training(), seed=0, should_stop=lambda: True)
        if isinstance(event, Checkpoint)
    )
    with pytest.raises(UnusableState, match="another training, seed"):
        list(fit(two(), static(), _training(epochs=5), seed=1, resume_from=first.state))


def test_a_state_from_before_the_configuration_had_a_field_goes_on(tmp_path: Path) -> None:
    _, stopped = fit(two(), static(), _training(), seed=0, should_stop=lambda: True)
    assert isinstance(stopped, Checkpoint)
    older = copy.deepcopy(stopped.state.identity)
    for modality in older["config"]["modalities"]:
        del modality["category_names"]
    del older["training"]["deletion_mix"]
    state.save(dataclasses.replace(stopped.state, identity=older), tmp_path / "older")
    *_, finished = fit(two(), static(), _training(), seed=0, resume_from=state.load(tmp_path / "older"))
    assert isinstance(finished, Finished)
    with pytest.raises(UnusableState, match="another training"):
        list(fit(two(), static(), _training(learning_rate=0.5), seed=0, resume_from=state.load(tmp_path / "older")))


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"0" * 100)
    with pytest.raises(UnusableState, match="not a whole safetensors file"):
        state.load(path)
