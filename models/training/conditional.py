"""Fits the conditional part of a trained model: a flow over the codes of the training rows."""

import math
from collections.abc import Callable, Generator

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.batch import Batch
from models.conditional import ConditionalFlow
from models.config import LearningRateSchedule
from models.mmvae import MMVAE
from models.training import data, schedule
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.events import Conditional

BATCH_ROWS = 256
LEARNING_RATE = 2e-3
SCHEDULE = LearningRateSchedule(warmup=0.1)
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0
WEIGHT_AVERAGE = 0.99
# Noise of the codes that are decoded, in deviations of the codes: drawn codes are not exact either.
JITTER = 0.05
DECODER_WEIGHT = 0.05
# Rows that are encoded together.
ENCODED_ROWS = 1024
REPORT_STEPS = 50
# Probability that a modality of a row is given.
KEPT = 0.5


def fit(
    model: MMVAE, dataset: Dataset, rows: Rows, steps: int, seed: int, should_stop: Callable[[], bool]
) -> Generator[Conditional, None, bool]:
    """Fit `model.conditional` to the codes of these rows. The rest of the model stays as it is.

    The code of a row is the mean of q(z | all that it has). A step hides each modality with probability 1/2, and moves
    the flow towards the codes given what is left (arXiv:2210.02747, eq. 9), and the decoders towards the values given
    the codes. Returns False if it was stopped. Raises FloatingPointError if the loss is NaN or infinite.
    """
    flow = model.conditional
    assert flow is not None  # noqa: S101 the caller has added it
    device = next(model.parameters()).device
    generator = np.random.default_rng(seed)
    if len(rows) > steps * BATCH_ROWS:
        rows = generator.choice(rows, steps * BATCH_ROWS, replace=False)
    mean = _means(model, dataset, rows, device)
    flow.standardise(mean)
    optimiser = torch.optim.AdamW(flow.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    average = AveragedModel(flow, multi_avg_fn=get_ema_multi_avg_fn(WEIGHT_AVERAGE))
    total = 0.0
    flow.train()
    for step in range(steps):
        if should_stop():
            return False
        chosen = generator.integers(len(rows), size=min(BATCH_ROWS, len(rows)))
        targets, own = data.batch_of(dataset, rows[chosen]).to(device), mean[torch.from_numpy(chosen).to(device)]
        loss = _loss(model, flow, targets, own, generator)
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


def _loss(model: MMVAE, flow: ConditionalFlow, targets: Batch, mean: Tensor, generator: np.random.Generator) -> Tensor:
    """The errors of flow and decoders on one batch. mean: of q(z | targets), (B, Z)."""
    device, shape = mean.device, mean.shape

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)).to(device)

    # times near the middle, where the velocity is hardest to tell, come more often (arXiv:2403.03206, eq. 19)
    time = normal(len(mean), 1).sigmoid()
    kept = {name: torch.from_numpy(generator.random(targets.rows) < KEPT).to(device) for name in targets.present}
    context = flow.given(targets.kept(kept), model.encoder_input)
    codes = mean + JITTER * flow.deviation * normal(*shape)
    error = flow.loss(codes, normal(*shape), time, context)
    return error + DECODER_WEIGHT * _decoding(model, flow, targets, codes)


def _decoding(model: MMVAE, flow: ConditionalFlow, targets: Batch, codes: Tensor) -> Tensor:
    """Negative log-likelihood of the values that a code was made of, in nats per row."""
    total = codes.new_zeros(())
    for name in targets.values:
        present, elements = targets.observed(name), targets.elements(name)
        raw = flow.decoded(name, codes[present])
        mask = None if elements is None else elements[present]
        total = total - model.likelihood(name).log_prob(raw, targets.values[name][present], mask).sum()
    return total / len(codes)


@torch.no_grad()
def _means(model: MMVAE, dataset: Dataset, rows: Rows, device: torch.device) -> Tensor:
    """The means of q(z | all that a row has), (N, Z)."""
    parts = [
        model.encode(data.batch_of(dataset, rows[start : start + ENCODED_ROWS]).to(device)).mean
        for start in range(0, len(rows), ENCODED_ROWS)
    ]
    return torch.cat(parts)
