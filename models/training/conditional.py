"""Fits the conditional part of a trained model: a flow over the codes of the training rows."""

import math
from collections.abc import Callable, Generator

import torch
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


def fit(
    model: Model, dataset: Dataset, rows: Rows, steps: int, seed: int, should_stop: Callable[[], bool]
) -> Generator[Conditional, None, bool]:
    """Fit `model.conditional` to the codes of these rows. The rest of the model stays as it is.

    A step hides parts of each row, and moves the flow towards the row's code given what is left (arXiv:2210.02747,
    eq. 9), and the decoders towards the values given the code. Returns False if it was stopped. Raises
    FloatingPointError if the loss is NaN or infinite.
    """
    flow = model.conditional
    assert flow is not None  # noqa: S101 the caller has added it
    losses: LossesOfSamples | LossesOfSequences
    if isinstance(model, MMVAE):
        losses = LossesOfSamples(model, dataset, rows, steps, seed)
    else:
        losses = LossesOfSequences(model, dataset, rows, seed)
    optimiser = torch.optim.AdamW(flow.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    average = AveragedModel(flow, multi_avg_fn=get_ema_multi_avg_fn(WEIGHT_AVERAGE))
    total = 0.0
    flow.train()
    for step in range(steps):
        if should_stop():
            return False
        loss = losses.of_step(step)
        if not math.isfinite(error := loss.item()):
            raise FloatingPointError(f"the loss of the conditional part is {error} at step {step + 1} of {steps}")
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * schedule.learning_rate_factor(SCHEDULE, step, steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), CLIP_NORM)
        optimiser.step()
        average.update_parameters(flow)
        total += error
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == steps:
            yield Conditional(step + 1, steps, total / (step % REPORT_STEPS + 1))
            total = 0.0
    flow.load_state_dict(average.module.state_dict())
    flow.eval()
    return True
