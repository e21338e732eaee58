"""The training loop: `fit` turns a configuration and a dataset into events and, at the end, a model."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.architectures import Model, build
from models.batch import Batch
from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.config.held_out import min_batch_size
from models.multimodal import NO_PARTS, Parts
from models.ops.explain import explain
from models.ops.philox import Draws
from models.training import calibrate, checks, data, objective, resume, schedule
from models.training.checks import UnusableData
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.distributed import Group
from models.training.events import Checkpoint, Epoch, Event, Finished, Started
from models.training.prefetch import Prefetch
from models.training.selection import Selection
from models.training.split import split
from models.training.state import TrainingState
from models.training.step import Trainer
from models.training.validate import validate


class TrainingDiverged(RuntimeError):
    """The loss or its gradient is NaN or infinite. The message names the step and what to change."""


class Seeds(NamedTuple):
    """Independent seeds by purpose."""

    weights: int
    split: int
    order: int
    noise: int
    validation: int

    @classmethod
    def spawn(cls, seed: int) -> Self:
        """The seeds that follow from one."""
        return cls(*np.random.SeedSequence(seed).generate_state(5).tolist())


def _never() -> bool:
    return False


def fit(
    config: MMVAEConfig | MMVRNNConfig,
    dataset: Dataset,
    training: TrainingConfig,
    *,
    seed: int,
    device: str = "cpu",
    should_stop: Callable[[], bool] = _never,
    resume_from: TrainingState | None = None,
    init: Mapping[str, Tensor] | None = None,
    checkpoint_seconds: float = math.inf,
    parts: Parts = NO_PARTS,
) -> Iterator[Event]:
    """Train a model. Yields Started, an Epoch per epoch, Checkpoints in between, and Finished.

    All randomness is a function of (seed, step, row). The same seed gives the same weights on a CPU, bit for bit, also
    if a training was stopped and continued from its checkpoint (`resume_from`).

    init: initial weights, of a model of the same configuration. parts: modules in place of those that the
    configuration names. should_stop is called before every step; if it returns True, the last event is a Checkpoint.
    checkpoint_seconds: time between Checkpoints. If several processes of one `torch.distributed` group call this, they
    train one model together.

    Raises UnusableData and UnusableState before the first event, and TrainingDiverged after a last Checkpoint.
    """
    checks.check(dataset, config, training)
    dataset = data.select(dataset, config)
    group, seeds = Group(), Seeds.spawn(seed)
    train_rows, validation_rows = _split(dataset, training, group, seeds.split, resume_from)
    steps_per_epoch = math.ceil(len(train_rows) / training.batch_size)
    steps = training.epochs * steps_per_epoch
    _check_beta(training, steps, steps_per_epoch)

    model = _build(config, parts, seeds.weights)
    model.set_statistics(data.statistics(dataset, model, train_rows))
    model.to(device)
    trainer = Trainer(model, training, group, seeds.noise, data.observed_values_per_row(dataset))
    prefetch = Prefetch(dataset, model, training, group, torch.device(device), seeds.noise)
    selection = Selection(training)
    identity = {
        "config": config.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "seed": seed,
        "rows": [len(train_rows), len(validation_rows)],
    }
    if init is not None:
        trainer.warm_start(init)
    if resume_from is not None:
        resume.restore(resume_from, trainer, selection, identity, group)

    def state() -> TrainingState:
        return resume.capture(trainer, selection, identity, group)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    kernels = explain(model, device, training)
    yield Started(parameters, len(train_rows), len(validation_rows), steps, trainer.step_count, kernels)
    with _noting(trainer, steps):
        saved_at = time.monotonic()
        for epoch in range(trainer.step_count // steps_per_epoch + 1, training.epochs + 1):
            if selection.stops_early:
                break
            done = trainer.step_count - (epoch - 1) * steps_per_epoch
            order = np.random.default_rng([seeds.order, epoch]).permutation(train_rows)
            batches = np.array_split(order, steps_per_epoch)[done:]
            for batch in prefetch(batches, trainer.step_count):
                if group.any(should_stop()):
                    yield Checkpoint(state(), "stopped")
                    return
                if group.any(time.monotonic() - saved_at > checkpoint_seconds):
                    yield Checkpoint(state(), "interval")
                    saved_at = time.monotonic()
                beta = schedule.beta_at(training.beta, trainer.step_count, steps, steps_per_epoch)
                factor = schedule.learning_rate_factor(training.learning_rate_schedule, trainer.step_count, steps)
                learning_rate = training.learning_rate * factor
                if not trainer.step(batch, beta, learning_rate):
                    yield Checkpoint(state(), "diverged")
                    raise _diverged(trainer.step_count, steps, epoch, training.learning_rate)
            metrics = trainer.end_epoch() | {"beta": beta, "learning_rate": learning_rate}
            if len(validation_rows):
                last_beta = schedule.last_beta(training.beta)
                with trainer.averaged():
                    metrics |= validate(model, dataset, validation_rows, training, last_beta, seeds.validation, group)
            selection.update(epoch, metrics, trainer)
            yield Epoch(epoch, training.epochs, trainer.step_count, metrics)
            if training.checkpoint_epochs and epoch % training.checkpoint_epochs == 0:
                yield Checkpoint(state(), "epoch")
                saved_at = time.monotonic()

        best = selection.result(trainer.step_count // steps_per_epoch, trainer)
        model = trainer.finish(best.weights)

        def mask(targets: Batch, rows: Rows, number: int) -> Batch:
            return objective.hidden(targets, training, lambda stream: Draws(seeds.validation, number, stream), rows)

        calibrate.calibrate(model, dataset, validation_rows, mask, seeds.validation)
        yield Finished(model, best.epoch, best.metrics, train_rows, validation_rows)


def _split(
    dataset: Dataset, training: TrainingConfig, group: Group, seed: int, resume_from: TrainingState | None
) -> tuple[Rows, Rows]:
    """The rows to train on and those held out. Raises UnusableData."""
    if training.batch_size < (least := min_batch_size(group.size)):
        raise UnusableData(
            f"batch_size is {training.batch_size}, expected at least {least} for {group.size} devices, so that each "
            "has a row of every batch"
        )
    held_out_before = resume_from.identity.get("rows", [0, None])[1] if resume_from else None
    train_rows, validation_rows = split(dataset, training, seed, held_out_before)
    if resume_from is None:  # a training that has begun may go on
        checks.check_train_rows(dataset, train_rows)
    return train_rows, validation_rows


def _check_beta(training: TrainingConfig, steps: int, steps_per_epoch: int) -> None:
    try:
        schedule.beta_at(training.beta, 0, steps, steps_per_epoch)
    except ValueError as error:
        raise UnusableData(f"training.beta does not fit the dataset: {error}") from error


def _build(config: MMVAEConfig | MMVRNNConfig, parts: Parts, seed: int) -> Model:
    """A model with random weights. torch's global generator is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config, parts)


def _diverged(step: int, steps: int, epoch: int, learning_rate: float) -> TrainingDiverged:
    return TrainingDiverged(
        f"the loss or its gradient is NaN or infinite at step {step + 1} of {steps} (epoch {epoch}); the checkpoint of "
        f"step {step} is the last good one; try a learning_rate below {learning_rate} or a smaller gradient_clip_norm, "
        "and check the data's largest values"
    )


@contextmanager
def _noting(trainer: Trainer, steps: int) -> Iterator[None]:
    """Add to errors how many steps were done: an error that repeats at the same step is not retried."""
    try:
        yield
    except Exception as error:
        error.add_note(f"after {trainer.step_count} of {steps} steps")
        raise
