"""The training loop: `fit` turns a configuration and a dataset into events and, at the end, a model."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.config.held_out import min_batch_size
from models.multimodal import NO_PARTS, Parts
from models.training import data, schedule
from models.training.data import Rows, UnusableData
from models.training.dataset import Dataset
from models.training.distributed import Group
from models.training.state import TrainingState
from models.training.step import Model, Session, TrainingDiverged


@dataclass(frozen=True)
class Started:
    """Data and model fit, training begins, or goes on after `step` steps.

    steps: optimiser steps in all. parameters: learned numbers.
    """

    parameters: int
    train_rows: int
    validation_rows: int
    steps: int
    step: int


@dataclass(frozen=True)
class Epoch:
    """Epoch `epoch` of `epochs` (from 1) is done, `step` optimiser steps so far.

    metrics, in nats per row, means over the epoch: loss, kl, reconstruction/NAME (the negative log-likelihood of a
    modality); with the prefix validation_ the same on the held-out rows, with the same masks and noise after every
    epoch and the last beta, so that epochs can be compared, and validation_profile (`models.training.objective.
    negative_profile`); and beta and learning_rate of the epoch's last step.
    """

    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Checkpoint:
    """A state to go on from: at an interval of time, at an epoch that is to be kept, before an end without a model."""

    state: TrainingState
    reason: Literal["interval", "epoch", "stopped", "diverged"]


@dataclass(frozen=True)
class Finished:
    """The trained model, in evaluation mode on the device it was trained on.

    epoch and metrics: those of the epoch whose weights these are. train_rows, validation_rows: which rows were what.
    """

    model: Model
    epoch: int
    metrics: dict[str, float]
    train_rows: Rows
    validation_rows: Rows


Event = Started | Epoch | Checkpoint | Finished


def _never() -> bool:
    return False


@contextmanager
def _noting(session: Session, steps: int) -> Iterator[None]:
    """Note on what goes wrong how far the training had come: the same error at the same step will come again."""
    try:
        yield
    except Exception as error:
        error.add_note(f"after {session.step} of {steps} steps")
        raise


def fit(
    config: MMVAEConfig | MMVRNNConfig,
    dataset: Dataset,
    training: TrainingConfig,
    *,
    seed: int,
    device: str = "cpu",
    should_stop: Callable[[], bool] = _never,
    resume: TrainingState | None = None,
    init: Mapping[str, Tensor] | None = None,
    checkpoint_seconds: float = math.inf,
    parts: Parts = NO_PARTS,
) -> Iterator[Event]:
    """Train a model and report on the way: Started, an Epoch each, a Checkpoint now and then, Finished.

    Everything random is a function of (seed, step, row): the same seed gives the same weights on a CPU, and one that
    was stopped and goes on from its checkpoint (`resume`) the same as one that was not, bit for bit. `init`: weights to
    begin with, of a model of the same configuration. `should_stop` is asked before every step; once it says true the
    events end with a Checkpoint. Several processes of one `torch.distributed` group that all call this train one
    model. Raises UnusableData before anything is built, UnusableState, and after a last Checkpoint
    TrainingDiverged.
    """
    data.check(dataset, config, training)
    dataset = data.select(dataset, config)
    group = Group()
    if training.batch_size < (least := min_batch_size(group.size)):
        raise UnusableData(
            f"batch_size is {training.batch_size}, expected at least {least} for {group.size} devices, so that each "
            "has a row of every batch"
        )
    weight_seed, split_seed, order_seed, noise_seed, validation_seed = (
        np.random.SeedSequence(seed).generate_state(5).tolist()
    )
    held_out_before = resume.identity.get("rows", [0, None])[1] if resume else None
    train_rows, validation_rows = data.split(dataset, training, split_seed, held_out_before)
    if resume is None:  # what has begun goes on
        data.check_training(dataset, train_rows)
    steps_per_epoch = math.ceil(len(train_rows) / training.batch_size)
    steps = training.epochs * steps_per_epoch
    try:
        schedule.beta_at(training.beta, 0, steps, steps_per_epoch)
    except ValueError as error:
        raise UnusableData(f"training.beta does not fit the dataset: {error}") from error

    session = Session(config, training, dataset, train_rows, device, group, parts, weight_seed, noise_seed)
    identity = {
        "config": config.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "seed": seed,
        "rows": [len(train_rows), len(validation_rows)],
    }
    if init is not None:
        session.warm_start(init)
    if resume is not None:
        session.restore(resume, identity)
    yield Started(
        parameters=sum(parameter.numel() for parameter in session.model.parameters()),
        train_rows=len(train_rows),
        validation_rows=len(validation_rows),
        steps=steps,
        step=session.step,
    )
    with _noting(session, steps):
        saved_at = time.monotonic()
        for epoch in range(session.step // steps_per_epoch + 1, training.epochs + 1):
            if session.patience_is_over():
                break
            done = session.step - (epoch - 1) * steps_per_epoch
            order = np.random.default_rng([order_seed, epoch]).permutation(train_rows)
            for ready in session.ahead(np.array_split(order, steps_per_epoch)[done:]):
                if group.any(should_stop()):
                    yield Checkpoint(session.state(identity), "stopped")
                    return
                if group.any(time.monotonic() - saved_at > checkpoint_seconds):
                    yield Checkpoint(session.state(identity), "interval")
                    saved_at = time.monotonic()
                beta = schedule.beta_at(training.beta, session.step, steps, steps_per_epoch)
                factor = schedule.learning_rate_factor(training.learning_rate_schedule, session.step, steps)
                rate = training.learning_rate * factor
                if not session.advance(ready, beta, rate):
                    yield Checkpoint(session.state(identity), "diverged")
                    raise TrainingDiverged(
                        f"the loss or its gradient is no longer a number at step {session.step + 1} of {steps} "
                        f"(epoch {epoch}); the checkpoint of step {session.step} is the last good one; try a "
                        f"learning_rate below {training.learning_rate} or a smaller gradient_clip_norm, and look at "
                        "the data's largest values"
                    )
            metrics = session.close_epoch() | {"beta": beta, "learning_rate": rate}
            if len(validation_rows):
                metrics |= session.validate(validation_rows, schedule.last_beta(training.beta), validation_seed)
            session.judge(epoch, metrics)
            yield Epoch(epoch, training.epochs, session.step, metrics)
            if training.checkpoint_epochs and epoch % training.checkpoint_epochs == 0:
                yield Checkpoint(session.state(identity), "epoch")
                saved_at = time.monotonic()
        epoch, metrics = session.choose(session.step // steps_per_epoch)
        session.calibrate(validation_rows, validation_seed)
        yield Finished(session.model.eval(), epoch, metrics, train_rows, validation_rows)
