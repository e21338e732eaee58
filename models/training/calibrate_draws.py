"""Fits `DrawCalibration`: draws of missing values become as wide as the errors on held-out rows."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from models import conditional_draws
from models.batch import Batch
from models.conditional import ConditionalFlow
from models.config.conditional import MIN_CODES, values_per_row
from models.draw_calibration import MAX_MODALITIES, MIN_ROWS
from models.mmvae import MMVAE
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset

LEVEL = 0.9
MAX_ROWS = 1000
# Numbers of one modality that are drawn together.
MAX_NUMBERS = 2**23
TINY = 1e-12
LIMITS = 0.01, 100.0


@torch.no_grad()
def calibrate(model: MMVAE, dataset: Dataset, rows: Rows, seed: int) -> None:
    """Fit the noise and the widths of draws of `model.conditional` to held-out rows; few rows change nothing."""
    flow = model.conditional
    assert flow is not None  # noqa: S101 the caller has added it
    names = [name for name in model.index if model.likelihood(name).has_intervals]
    if len(rows) < MIN_ROWS or not names:
        return
    rows = rows[:: -(-len(rows) // MAX_ROWS)]
    for name in names:
        _fit_noise(model, flow, dataset, rows, name)
    for name in names:
        flow.calibration.set_factors(name, _scores(model, dataset, rows, name, seed), LEVEL)


def _fit_noise(model: MMVAE, flow: ConditionalFlow, dataset: Dataset, rows: Rows, name: str) -> None:
    """The ratio of the error of codes of all given values to the likelihood's spread."""
    noise, likelihood = flow.calibration.noise(name), model.likelihood(name)
    error, predicted, count = (torch.zeros_like(noise, dtype=torch.float64) for _ in range(3))
    for targets, _ in _chunks(model, dataset, rows, name):
        raw = flow.decoded(name, model.encode(targets).mean).unsqueeze(0)
        described, known = likelihood.describe(raw), targets.known(name)
        squares = (described["mean"] - targets.values[name]).square(), described["standard_deviation"].square()
        for total, each in zip((error, predicted, count), (*squares, torch.ones_like(squares[0])), strict=True):
            own = torch.where(known, each, 0).double()
            total += own.sum(dim=0) if noise.ndim else own.sum()
    ratio = (error / predicted.clamp(min=TINY)).sqrt().clamp(*LIMITS)
    noise.copy_(torch.where(count >= MIN_ROWS, ratio, 1.0))


def _scores(model: MMVAE, dataset: Dataset, rows: Rows, name: str, seed: int) -> dict[int, Tensor]:
    """For each pattern without the modality, the errors of rows over the half-widths of their intervals."""
    likelihood, others = model.likelihood(name), [other for other in model.index if other != name]
    scores: dict[int, list[Tensor]] = {}
    for targets, chunk in _chunks(model, dataset, rows, name):
        for given in _subsets(others):
            inputs = targets.kept({other: _all(targets, other in given) for other in targets.present})
            pattern = sum(1 << model.index[other] for other in given)
            has_all = torch.stack([targets.observed(other) for other in (*given, name)]).all(dim=0)
            codes = conditional_draws.codes(model, inputs, MIN_CODES, seed, chunk)
            drawn = conditional_draws.draw(model, name, codes, seed, chunk)
            described = conditional_draws.described(likelihood, drawn, drawn.values, LEVEL)
            mean, value = drawn.values.mean(dim=(0, 1)), targets.values[name]
            above, below = described["upper"] - mean, mean - described["lower"]
            score = torch.where(
                value > mean, (value - mean) / above.clamp(min=TINY), (mean - value) / below.clamp(min=TINY)
            )
            score = torch.where(targets.known(name), score, torch.nan)
            scores.setdefault(pattern, []).append(score[has_all].flatten(1))
    return {pattern: torch.cat(parts) for pattern, parts in scores.items()}


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    """The sets of given modalities: all of them, or with many modalities each one alone and all."""
    if len(names) >= MAX_MODALITIES:
        yield from [(name,) for name in names]
        yield tuple(names)
        return
    for number in range(2 ** len(names)):
        yield tuple(name for index, name in enumerate(names) if number >> index & 1)


def _chunks(model: MMVAE, dataset: Dataset, rows: Rows, name: str) -> Iterator[tuple[Batch, Rows]]:
    """The rows on the model's device, as many at once as their draws fit into memory."""
    elements = math.prod(model.likelihood(name).modality.shape)
    size = max(1, MAX_NUMBERS // (elements * values_per_row(0)))
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        yield data.batch_of(dataset, rows[start : start + size]).to(device), rows[start : start + size]


def _all(targets: Batch, value: bool) -> Tensor:
    return torch.full((targets.rows,), value, device=next(iter(targets.present.values())).device)
