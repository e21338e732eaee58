"""The training loop: `fit` turns a configuration and a dataset into events and, at the end, a model."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from models import batch, schedule
from models.architectures import Model, build
from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.dropout import modality_dropout
from models.objective import Objective, negative_elbo
from service.shared.samples import Samples
from worker import data
from worker.data import Rows, UnusableData


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the message names the step and what to change."""


@dataclass(frozen=True)
class Started:
    """Data and model fit, training begins. steps: optimiser steps in all. parameters: learned numbers."""

    parameters: int
    train_rows: int
    validation_rows: int
    steps: int


@dataclass(frozen=True)
class Epoch:
    """Epoch `epoch` of `epochs` (from 1) is done, `step` optimiser steps so far.

    metrics, in nats per row, means over the epoch: loss, kl, reconstruction/NAME (the negative log-likelihood of a
    modality), the same with the prefix validation_ on the held-out rows with their inputs as they are; and beta and
    learning_rate of the epoch's last step.
    """

    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Finished:
    """The trained model, in evaluation mode on the device it was trained on, and the last epoch's metrics."""

    model: Model
    metrics: dict[str, float]


Event = Started | Epoch | Finished


def _never() -> bool:
    return False


def fit(
    config: MMVAEConfig | MMVRNNConfig,
    training: TrainingConfig,
    samples: Samples,
    *,
    seed: int,
    device: str = "cpu",
    should_stop: Callable[[], bool] = _never,
) -> Iterator[Event]:
    """Train a model and report on the way: Started, an Epoch each, Finished.

    The same seed gives the same weights on a CPU. `should_stop` is asked before every step; once it says true the
    events end without Finished. Raises UnusableData before anything is built, and TrainingDiverged.
    """
    data.check(samples, config)
    samples = data.select(samples, config)
    weight_seed, order_seed, noise_seed, validation_seed = np.random.SeedSequence(seed).generate_state(4).tolist()
    order = np.random.default_rng(order_seed)
    train_rows, validation_rows = _split(samples.rows, training, order)
    steps_per_epoch = math.ceil(len(train_rows) / training.batch_size)
    steps = training.epochs * steps_per_epoch
    try:
        schedule.beta_at(training.beta, 0, steps, steps_per_epoch)
    except ValueError as error:
        raise UnusableData(f"training.beta does not fit the dataset: {error}") from error
    model = _build(config, weight_seed)
    model.set_statistics(data.statistics(samples, train_rows))
    model.to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    noise = torch.Generator().manual_seed(noise_seed)
    yield Started(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        train_rows=len(train_rows),
        validation_rows=len(validation_rows),
        steps=steps,
    )
    # Adam does not mind the size of the objective, but clipping does: per value it means the same at any length.
    values = data.observed_values_per_row(samples)
    step = 0
    metrics: dict[str, float] = {}
    for epoch in range(1, training.epochs + 1):
        model.train()
        totals = Totals()
        for rows in np.array_split(order.permutation(train_rows), steps_per_epoch):
            if should_stop():
                return
            beta = schedule.beta_at(training.beta, step, steps, steps_per_epoch)
            rate = training.learning_rate * schedule.learning_rate_factor(step, steps)
            objective = _objective(model, samples, rows, beta, training.modality_dropout, noise, device)
            if not torch.isfinite(objective.loss):
                raise TrainingDiverged(
                    f"the loss is {objective.loss.item()} at step {step + 1} of {steps} (epoch {epoch}); "
                    f"try a smaller learning_rate than {training.learning_rate}"
                )
            optimiser.zero_grad()
            (objective.loss / values).backward()
            clip_grad_norm_(model.parameters(), training.gradient_clip_norm)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            totals.add(objective, len(rows))
            step += 1
        metrics = {**totals.means(""), "beta": beta, "learning_rate": rate}
        if len(validation_rows):
            metrics |= _validate(model, samples, validation_rows, beta, training.batch_size, validation_seed, device)
        yield Epoch(epoch, training.epochs, step, metrics)
    yield Finished(model.eval(), metrics)


class Totals:
    """Sums of an epoch's objective, kept on the device: reading them once is one wait instead of one a step."""

    def __init__(self) -> None:
        self.rows = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, objective: Objective, rows: int) -> None:
        """Count a batch of this many rows."""
        parts = {"loss": objective.loss, "kl": objective.kl}
        parts |= {f"reconstruction/{name}": -value for name, value in objective.log_likelihood.items()}
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + rows * value.detach()
        self.rows += rows

    def means(self, prefix: str) -> dict[str, float]:
        """Means over all rows counted so far."""
        return {f"{prefix}{name}": total.item() / self.rows for name, total in self.sums.items()}


def _build(config: MMVAEConfig | MMVRNNConfig, seed: int) -> Model:
    # Only here is torch's global generator used, and the caller gets it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config)


def _split(rows: int, training: TrainingConfig, order: np.random.Generator) -> tuple[Rows, Rows]:
    shuffled = order.permutation(rows)
    held_out = round(training.validation_fraction * rows)
    if rows - held_out < training.batch_size:
        raise UnusableData(
            f"the dataset has {rows} rows, {rows - held_out} of them for training (validation_fraction "
            f"{training.validation_fraction}), expected at least one batch of {training.batch_size}"
        )
    return shuffled[held_out:], shuffled[:held_out]


def _objective(
    model: Model,
    samples: Samples,
    rows: Rows,
    beta: float,
    modality_dropout_probability: float,
    generator: torch.Generator,
    device: str,
) -> Objective:
    targets = data.batch_of(samples, rows)
    batch.check(targets, model.modalities, model.config.kind)
    inputs = modality_dropout(targets, modality_dropout_probability, generator)
    noise = torch.randn(model.noise_shape(targets), generator=generator)
    return negative_elbo(model.terms(inputs.to(device), targets.to(device), noise.to(device)), beta)


@torch.no_grad()
def _validate(
    model: Model, samples: Samples, rows: Rows, beta: float, batch_size: int, seed: int, device: str
) -> dict[str, float]:
    model.eval()
    totals = Totals()
    # The same noise after every epoch: what changes is the model.
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        totals.add(_objective(model, samples, chunk, beta, 0.0, generator, device), len(chunk))
    return totals.means("validation_")
