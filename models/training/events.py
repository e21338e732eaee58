"""The events of a training."""

from dataclasses import dataclass
from typing import Literal

from models.architectures import Model
from models.ops.explain import Served
from models.training.data import Rows
from models.training.state import TrainingState


@dataclass(frozen=True)
class Started:
    """Model and data fit each other, and training begins, or continues after `step` steps.

    parameters: number of learned values. steps: optimiser steps in all. kernels: what computes each operation.
    """

    parameters: int
    train_rows: int
    validation_rows: int
    steps: int
    step: int
    kernels: tuple[Served, ...]


@dataclass(frozen=True)
class Epoch:
    """Epoch `epoch` of `epochs` (from 1) is done, after `step` optimiser steps in all.

    metrics, in nats per row, means over the epoch: loss, kl, and reconstruction/NAME, the negative log-likelihood of a
    modality. With the prefix validation_: the same on the held-out rows, and validation_profile
    (`models.training.objective.negative_profile`). Validation uses the same masks and noise after every epoch, and the
    last beta, so that epochs can be compared. beta and learning_rate: those of the last step.
    """

    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Conditional:
    """The conditional part has been fitted for `step` of `steps` steps. loss: the mean since the last such event."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Checkpoint:
    """A state to resume from.

    reason: an interval of time has passed, an epoch is to be kept, or training ends without a model.
    """

    state: TrainingState
    reason: Literal["interval", "epoch", "stopped", "diverged"]


@dataclass(frozen=True)
class Finished:
    """The trained model, in evaluation mode and on the device it was trained on.

    epoch, metrics: of the epoch whose weights the model has. train_rows, validation_rows: the split, as row numbers.
    """

    model: Model
    epoch: int
    metrics: dict[str, float]
    train_rows: Rows
    validation_rows: Rows


Event = Started | Epoch | Conditional | Checkpoint | Finished
