"""Fits the conditional part of a trained model: a flow over the codes of the training rows."""

import math
from collections.abc import Callable, Generator

from torch import Tensor

from models.architectures import Model
from models.config import LearningRateSchedule
from models.mmvae import MMVAE
from models.training import schedule
from models.training.average import WeightAverage
from models.training.conditional_losses import LossesOfSamples, LossesOfSequences
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.events import Conditional
from models.training.flat import FlatParameters
from models.training.optimiser import Optimiser

SCHEDULE = LearningRateSchedule(warmup=0.1)
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0
WEIGHT_AVERAGE = 0.99
REPORT_STEPS = 50
# It ends when held-out rows found nothing better for this part of all steps.
PATIENCE = 0.5


def fit(
    model: Model,
    dataset: Dataset,
    rows: Rows,
    held_out: Rows,
    steps: int,
    seed: int,
    should_stop: Callable[[], bool],
) -> Generator[Conditional, None, bool]:
    """Fit `model.conditional` to the codes of these rows. The rest of the model stays as it is.

    A step hides parts of each row, and moves the flow towards the row's code given what is left (arXiv:2210.02747,
    eq. 9), and the decoders towards the values given the code. Held-out rows choose the step; where they are too few,
    samples keep the regression. Returns False if it was stopped. Raises FloatingPointError if the loss is NaN or
    infinite.
    """
    flow = model.conditional
    assert flow is not None  # noqa: S101 the caller has added it
    losses: LossesOfSamples | LossesOfSequences
    if isinstance(model, MMVAE):
        losses = LossesOfSamples(model, dataset, rows, held_out, steps, seed)
    else:
        losses = LossesOfSequences(model, dataset, rows, seed)
    parameters = FlatParameters(flow)
    optimiser, average = Optimiser(parameters, "adamw", WEIGHT_DECAY), WeightAverage(parameters, WEIGHT_AVERAGE)
    best = _Best(parameters)
    best.offer(0, losses.of_held_out())
    total = 0.0
    flow.train()
    for step in range(steps if losses.learns else 0):
        if should_stop():
            return False
        loss = losses.of_step(step)
        if not math.isfinite(error := loss.item()):
            raise FloatingPointError(f"the loss of the conditional part is {error} at step {step + 1} of {steps}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.clip(CLIP_NORM)
        optimiser.step(losses.learning_rate * schedule.learning_rate_factor(SCHEDULE, step, steps))
        average.update(step + 1)
        total += error
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == steps:
            yield Conditional(step + 1, steps, total / (step % REPORT_STEPS + 1))
            total = 0.0
            with average.applied():
                best.offer(step + 1, losses.of_held_out())
            if step + 1 - best.step > PATIENCE * steps:
                break
    best.take()
    parameters.release()
    flow.eval()
    return True


class _Best:
    """The weights with the smallest error on held-out rows; the newest if there are no such rows.

    A step counts as better if the mean difference of the rows' errors is larger than its standard error: with few rows,
    the smallest of many means would be one of a step that has learned the noise of its rows.
    """

    def __init__(self, parameters: FlatParameters) -> None:
        self._live = [vector.detach() for vector in parameters.vectors]
        self._weights = [vector.clone() for vector in self._live]
        self._errors: Tensor | None = None
        self.step = 0

    def offer(self, step: int, errors: Tensor | None) -> None:
        """Keep today's weights if they are better. errors: of each held-out row."""
        if errors is not None and self._errors is not None:
            less = self._errors - errors
            if not less.mean() > less.std() / math.sqrt(len(less)):  # also for NaN
                return
        self._errors, self.step = errors, step
        self._weights = [vector.clone() for vector in self._live]

    def take(self) -> None:
        """Return to the weights that were kept."""
        for vector, weights in zip(self._live, self._weights, strict=True):
            vector.copy_(weights)
