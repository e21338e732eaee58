"""Fits `DrawCalibration`: draws of missing values become as wide as the errors on held-out rows."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models import conditional_draws
from models.architectures import Model
from models.batch import Batch
from models.conditional import ConditionalFlow
from models.conditional_sequences import SequenceFlow
from models.config.conditional import MIN_CODES, values_per_row
from models.draw_calibration import LEAST_NOISE, MAX_MODALITIES, TINY, DrawCalibration, Scores
from models.ops.philox import Draws
from models.training import data
from models.training.conditional_losses import GAPS
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.deletion_mix import deletion_mix
from models.training.objective import MIX

LEVEL = 0.9
MAX_ROWS = 1000
# Time steps of all held-out sequences together, and gaps of each sequence.
MAX_STEPS = 6000
GAPS_OF_EACH = 4
# Numbers of one modality that are drawn together.
MAX_NUMBERS = 2**23
LIMITS = LEAST_NOISE, 100.0


@torch.no_grad()
def calibrate(model: Model, dataset: Dataset, rows: Rows, seed: int) -> None:
    """Fit the noise and the widths of draws of `model.conditional` to held-out rows; few rows change no width."""
    flow = model.conditional
    assert flow is not None  # noqa: S101 the caller has added it
    names = [name for name in model.index if model.likelihood(name).has_intervals]
    if not names or len(rows) < flow.calibration.min_errors:
        return
    most = MAX_ROWS
    if dataset.offsets is not None:
        most = max(flow.calibration.min_rows, MAX_STEPS // round(np.diff(dataset.offsets)[rows].mean()))
    rows = rows[:: -(-len(rows) // most)]
    for name in names:
        _fit_noise(model, flow, dataset, rows, name)
    if len(rows) < flow.calibration.min_rows:
        return
    scores = _Collected()
    if dataset.offsets is None:
        for name in names:
            _score_samples(model, dataset, rows, name, seed, scores)
    else:
        _score_sequences(model, flow.calibration, dataset, rows, names, seed, scores)
    for name in names:
        flow.calibration.set_factors(name, scores.of(name), scores.rows(name), LEVEL)


class _Collected:
    """Scores by modality and pattern: three numbers of each element, as `Scores` has them."""

    def __init__(self) -> None:
        self._elements: dict[str, dict[int, list[Tensor]]] = {}
        self._rows: dict[tuple[str, int], set[int]] = {}

    def add(self, name: str, pattern: int, score: Tensor, chosen: Tensor, rows: Rows) -> None:
        """Add the elements of a score, (3, B, ...), that a mask of shape (B, ...) chooses."""
        if bool(chosen.any()):
            self._elements.setdefault(name, {}).setdefault(pattern, []).append(score[:, chosen])
            has_some = chosen.reshape(len(chosen), -1).any(dim=1).cpu().numpy()
            self._rows.setdefault((name, pattern), set()).update(rows[has_some].tolist())

    def rows(self, name: str) -> int:
        """The number of rows that have a score of a modality."""
        return len(set().union(*(found for (other, _), found in self._rows.items() if other == name)))

    def of(self, name: str) -> dict[int, Scores]:
        """The scores of a modality by pattern."""
        found = self._elements.get(name, {})
        return {
            pattern: Scores(torch.cat(parts, dim=1), len(self._rows[name, pattern])) for pattern, parts in found.items()
        }


def _fit_noise(model: Model, flow: ConditionalFlow | SequenceFlow, dataset: Dataset, rows: Rows, name: str) -> None:
    """The ratio of the error of codes of all given values to the likelihood's spread."""
    noise, likelihood = flow.calibration.noise(name), model.likelihood(name)
    error, predicted, count = (torch.zeros_like(noise, dtype=torch.float64) for _ in range(3))
    for targets, _ in _chunks(model, dataset, rows, [name]):
        codes = model.full_codes(targets)
        raw = flow.decoded(name, codes.flatten(0, -2)).unsqueeze(0)
        described = {key: value.unflatten(0, codes.shape[:-1]) for key, value in likelihood.describe(raw).items()}
        known = targets.known(name)
        squares = (described["mean"] - targets.values[name]).square(), described["standard_deviation"].square()
        for total, each in zip((error, predicted, count), (*squares, torch.ones_like(squares[0])), strict=True):
            own = torch.where(known, each, 0).double()
            total += own.flatten(0, codes.ndim - 2).sum(dim=0) if noise.ndim else own.sum()
    ratio = (error / predicted.clamp(min=TINY)).sqrt().clamp(*LIMITS)
    noise.copy_(torch.where(count >= flow.calibration.min_errors, ratio, noise))


def _score_samples(model: Model, dataset: Dataset, rows: Rows, name: str, seed: int, scores: _Collected) -> None:
    """For each pattern without the modality, of rows that have all that the pattern names."""
    others = [other for other in model.index if other != name]
    for targets, chunk in _chunks(model, dataset, rows, [name]):
        for given in _subsets(others):
            inputs = targets.kept({other: _all(targets, other in given) for other in targets.present})
            pattern = sum(1 << model.index[other] for other in given)
            has_all = torch.stack([targets.observed(other) for other in (*given, name)]).all(dim=0)
            codes = conditional_draws.codes(model, inputs, MIN_CODES, seed, chunk)
            score, known = _score(model, name, targets, codes, seed, chunk)
            chosen = known & has_all.reshape(-1, *[1] * (known.ndim - 1))
            scores.add(name, pattern, score, chosen, chunk)


def _score_sequences(
    model: Model,
    calibration: DrawCalibration,
    dataset: Dataset,
    rows: Rows,
    names: list[str],
    seed: int,
    scores: _Collected,
) -> None:
    """Of the steps in random gaps, by their patterns."""
    for targets, chunk in _chunks(model, dataset, rows, names):
        for number in range(GAPS_OF_EACH):
            inputs = deletion_mix(targets, GAPS, Draws(seed, number, MIX, model.backend), chunk)
            codes = conditional_draws.codes(model, inputs, MIN_CODES, seed, chunk)
            for name in names:
                score, known = _score(model, name, targets, codes, seed, chunk)
                missing, pattern = ~inputs.observed(name), calibration.pattern(name, inputs)
                for one in range(calibration.patterns):
                    here = (missing & (pattern == one)).reshape(*pattern.shape, *[1] * (known.ndim - pattern.ndim))
                    scores.add(name, one, score, known & here, chunk)


def _score(model: Model, name: str, targets: Batch, codes: Tensor, seed: int, rows: Rows) -> tuple[Tensor, Tensor]:
    """What `Scores` has of each element, (3, B, ...), and which elements are known."""
    likelihood, value = model.likelihood(name), targets.values[name]
    drawn = conditional_draws.draw(model, name, codes, seed, rows)
    described = conditional_draws.described(likelihood, drawn, drawn.values, LEVEL)
    mean = drawn.values.mean(dim=(0, 1))
    above, below = described["upper"] - mean, mean - described["lower"]
    error = torch.where(value > mean, (value - mean) / above.clamp(min=TINY), (mean - value) / below.clamp(min=TINY))
    variance, square = likelihood.deviation_and_error(described, value)
    return torch.stack([error, square.square(), variance.square()]), targets.known(name)


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    """The sets of given modalities: all of them, or with many modalities each one alone and all."""
    if len(names) >= MAX_MODALITIES:
        yield from [(name,) for name in names]
        yield tuple(names)
        return
    for number in range(2 ** len(names)):
        yield tuple(name for index, name in enumerate(names) if number >> index & 1)


def _chunks(model: Model, dataset: Dataset, rows: Rows, names: list[str]) -> Iterator[tuple[Batch, Rows]]:
    """The rows on the model's device, as many at once as their draws fit into memory."""
    elements = max(math.prod(model.likelihood(name).modality.shape) for name in names)
    steps = 1 if dataset.offsets is None else int(np.diff(dataset.offsets)[rows].max())
    size = max(1, MAX_NUMBERS // (elements * steps * values_per_row(0)))
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        yield data.batch_of(dataset, rows[start : start + size]).to(device), rows[start : start + size]


def _all(targets: Batch, value: bool) -> Tensor:
    return torch.full((targets.rows,), value, device=next(iter(targets.present.values())).device)
