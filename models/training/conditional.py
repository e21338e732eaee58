"""Fits the conditional part of a trained model: a flow over the codes of the training rows."""

import math
from collections.abc import Callable, Generator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.architectures import Model
from models.config import LearningRateSchedule
from models.mmvae import MMVAE
from models.training import schedule
from models.training.conditional_losses import LossesOfSamples, LossesOfSequences
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.events import Conditional

LEARNING_RATE = 2e-3
SCHEDULE = LearningRateSchedule(warmup=0.1)
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0
WEIGHT_AVERAGE = 0.99
REPORT_STEPS = 50
# The part of the steps in which it is learned what the code of a time step is.
STEPS_OF_CODES = 1 / 3


def fit(
    model: Model, dataset: Dataset, rows: Rows, steps: int, seed: int, should_stop: Callable[[], bool]
) -> Generator[Conditional, None, bool]:
    """Fit `model.conditional` to the codes of these rows. The rest of the model stays as it is.

    A step hides parts of each row, and moves the flow towards the row's code given what is left (arXiv:2210.02747,
    eq. 9), and the decoders towards the values given the code. Sequences first learn what a step's code is. Returns
    False if it was stopped. Raises FloatingPointError if the loss is NaN or infinite.
    """
    flow = model.conditional
    assert flow is not None  # noqa: S101 the caller has added it
    if isinstance(model, MMVAE):
        of_samples = LossesOfSamples(model, dataset, rows, steps, seed)
        return (yield from _minimise(flow, of_samples.of_flow, range(steps), steps, should_stop))
    of_sequences, first = LossesOfSequences(model, dataset, rows, seed), round(steps * STEPS_OF_CODES)
    if not (yield from _minimise(flow, of_sequences.of_codes, range(first), steps, should_stop)):
        return False
    of_sequences.standardise()
    return (yield from _minimise(flow, of_sequences.of_flow, range(first, steps), steps, should_stop))


def _minimise(
    flow: nn.Module, loss_of: Callable[[int], Tensor], numbers: range, steps: int, should_stop: Callable[[], bool]
) -> Generator[Conditional, None, bool]:
    """Take the steps of these numbers, of `steps` in all, and leave the average of the last weights in `flow`."""
    optimiser = torch.optim.AdamW(flow.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    average = AveragedModel(flow, multi_avg_fn=get_ema_multi_avg_fn(WEIGHT_AVERAGE))
    total, reported = 0.0, numbers.start
    flow.train()
    for step in numbers:
        if should_stop():
            return False
        loss = loss_of(step)
        if not math.isfinite(error := loss.item()):
            raise FloatingPointError(f"the loss of the conditional part is {error} at step {step + 1} of {steps}")
        for group in optimiser.param_groups:
            factor = schedule.learning_rate_factor(SCHEDULE, step - numbers.start, len(numbers))
            group["lr"] = LEARNING_RATE * factor
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), CLIP_NORM)
        optimiser.step()
        average.update_parameters(flow)
        total += error
        if (step + 1 - numbers.start) % REPORT_STEPS == 0 or step + 1 == numbers.stop:
            yield Conditional(step + 1, steps, total / (step + 1 - reported))
            total, reported = 0.0, step + 1
    flow.load_state_dict(average.module.state_dict())
    flow.eval()
    return True
