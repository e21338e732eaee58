"""The parts of a training: model, data, optimiser and split, built from a configuration or restored from a state."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.architectures import Model, build
from models.batch import Batch
from models.config import ConditionalFlowConfig, MMVAEConfig, MMVRNNConfig, SequenceFlowConfig, TrainingConfig
from models.config.held_out import min_batch_size
from models.multimodal import NO_PARTS, Parts
from models.ops import Backend
from models.ops.philox import Draws
from models.training import checks, data, objective, resume, schedule
from models.training.checks import UnusableData
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.distributed import Group
from models.training.prefetch import Prefetch, Prefetched
from models.training.selection import Selection
from models.training.split import split
from models.training.state import TrainingState
from models.training.step import Trainer

CONDITIONAL = "conditional."
"""The beginning of the names of weights that are fitted at the end."""


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


@dataclass(frozen=True)
class Setup:
    """The parts of a training. identity: what must be the same on resuming.

    conditional: the part that is added to the model and fitted at the end.
    """

    model: Model
    dataset: Dataset
    training: TrainingConfig
    group: Group
    seeds: Seeds
    train_rows: Rows
    validation_rows: Rows
    trainer: Trainer
    prefetch: Prefetch
    selection: Selection
    identity: dict[str, Any]
    conditional: ConditionalFlowConfig | SequenceFlowConfig | None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(len(self.train_rows) / self.training.batch_size)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.training.epochs * self.steps_per_epoch

    @property
    def epochs_done(self) -> int:
        """The number of complete epochs."""
        return self.trainer.step_count // self.steps_per_epoch

    def batches(self, epoch: int) -> Iterator[Prefetched]:
        """The batches of an epoch, from 1, that are still to be trained on. An epoch has its own random order."""
        order = np.random.default_rng([self.seeds.order, epoch]).permutation(self.train_rows)
        done = self.trainer.step_count - (epoch - 1) * self.steps_per_epoch
        return self.prefetch(np.array_split(order, self.steps_per_epoch)[done:], self.trainer.step_count)

    def beta(self) -> float:
        """beta of the next step."""
        return schedule.beta_at(self.training.beta, self.trainer.step_count, self.steps, self.steps_per_epoch)

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        factor = schedule.learning_rate_factor(
            self.training.learning_rate_schedule, self.trainer.step_count, self.steps
        )
        return self.training.learning_rate * factor

    def mask(self, targets: Batch, rows: Rows, number: int) -> Batch:
        """The targets under the n-th random mask, of the kind that the training uses. For calibration."""

        def draws(stream: int) -> Draws:
            return Draws(self.seeds.validation, number, stream, self.model.backend)

        return objective.hidden(targets, self.training, draws, rows)

    def state(self) -> TrainingState:
        """The state between two steps."""
        return resume.capture(self.trainer, self.selection, self.identity, self.group)


def prepare(
    config: MMVAEConfig | MMVRNNConfig,
    dataset: Dataset,
    training: TrainingConfig,
    seed: int,
    device: str,
    resume_from: TrainingState | None = None,
    init: Mapping[str, Tensor] | None = None,
    parts: Parts = NO_PARTS,
    backend: Backend = "auto",
) -> Setup:
    """Check the dataset, split it, and build the model and its optimiser. Arguments and errors are those of `fit`."""
    checks.check(dataset, config, training)
    if training.fit == "conditional" and init is None:
        raise UnusableData(
            "training.fit is 'conditional' without a trained model, expected the weights of one in `init`"
        )
    dataset = data.select(dataset, config)
    group, seeds = Group(), Seeds.spawn(seed)
    train_rows, validation_rows = _split(dataset, training, group, seeds.split, resume_from)
    _check_beta(training, math.ceil(len(train_rows) / training.batch_size))
    later = config.conditional
    at_first = config if later is None else config.model_copy(update={"conditional": None})
    model = _build(at_first, parts, backend, seeds.weights)
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
        trainer.warm_start({name: weight for name, weight in init.items() if not name.startswith(CONDITIONAL)})
    if resume_from is not None:
        resume.restore(resume_from, trainer, selection, identity, group)
    return Setup(
        model,
        dataset,
        training,
        group,
        seeds,
        train_rows,
        validation_rows,
        trainer,
        prefetch,
        selection,
        identity,
        later,
    )


def _split(
    dataset: Dataset, training: TrainingConfig, group: Group, seed: int, resume_from: TrainingState | None
) -> tuple[Rows, Rows]:
    """The rows to train on and those held out. Raises UnusableData."""
    if training.batch_size < (smallest := min_batch_size(group.size)):
        raise UnusableData(
            f"batch_size is {training.batch_size}, expected at least {smallest} for {group.size} devices, so that each "
            "has a row of every batch"
        )
    held_out_before = resume_from.identity.get("rows", [0, None])[1] if resume_from else None
    train_rows, validation_rows = split(dataset, training, seed, held_out_before)
    if resume_from is None:  # a training that has begun may continue
        checks.check_train_rows(dataset, train_rows)
    return train_rows, validation_rows


def _check_beta(training: TrainingConfig, steps_per_epoch: int) -> None:
    try:
        schedule.beta_at(training.beta, 0, training.epochs * steps_per_epoch, steps_per_epoch)
    except ValueError as error:
        raise UnusableData(f"training.beta does not fit the dataset: {error}") from error


def _build(config: MMVAEConfig | MMVRNNConfig, parts: Parts, backend: Backend, seed: int) -> Model:
    """A model with random weights. torch's global generator is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config, parts, backend)
