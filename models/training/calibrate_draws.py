"""Fits `DrawCalibration`: draws of missing values become as wide as the errors on held-out rows."""

import numpy as np
import torch
from torch import Tensor

from models import conditional_draws
from models.architectures import Model
from models.batch import Batch
from models.conditional import ConditionalFlow
from models.conditional_draws import Drawn
from models.conditional_sequences import SequenceFlow
from models.config.conditional import MIN_CODES
from models.draw_calibration import LEAST_NOISE, TINY, DrawCalibration, Scores
from models.ops.philox import Draws
from models.training import hidden_rows
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
        _score_samples(model, dataset, rows, names, seed, scores)
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
    for targets, _ in hidden_rows.chunks(model, dataset, rows, [name]):
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


def _score_samples(model: Model, dataset: Dataset, rows: Rows, names: list[str], seed: int, scores: _Collected) -> None:
    """Under each pattern, of rows that have all that the pattern names."""
    for each in hidden_rows.patterns(model, dataset, rows, names):
        codes = conditional_draws.codes(model, each.inputs, MIN_CODES, seed, each.rows)
        others = conditional_draws.other_predictions(model, each.inputs, each.names)
        for name in each.names:
            drawn = conditional_draws.draw(model, name, each.inputs, codes, others, seed, each.rows)
            score = _score(model, name, each.targets, drawn)
            scores.add(name, each.pattern, score, each.known(name), each.rows)


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
    for targets, chunk in hidden_rows.chunks(model, dataset, rows, names):
        for number in range(GAPS_OF_EACH):
            inputs = deletion_mix(targets, GAPS, Draws(seed, number, MIX, model.backend), chunk)
            codes = conditional_draws.codes(model, inputs, MIN_CODES, seed, chunk)
            for name in names:
                drawn = conditional_draws.draw(model, name, inputs, codes, {}, seed, chunk)
                score, known = _score(model, name, targets, drawn), targets.known(name)
                missing, pattern = ~inputs.observed(name), calibration.pattern(name, inputs)
                for one in range(calibration.patterns):
                    here = (missing & (pattern == one)).reshape(*pattern.shape, *[1] * (known.ndim - pattern.ndim))
                    scores.add(name, one, score, known & here, chunk)


def _score(model: Model, name: str, targets: Batch, drawn: Drawn) -> Tensor:
    """What `Scores` has of each element: (3, B, ...)."""
    likelihood, value = model.likelihood(name), targets.values[name]
    described = conditional_draws.described(likelihood, drawn, drawn.values, LEVEL)
    mean = drawn.values.mean(dim=(0, 1))
    above, below = described["upper"] - mean, mean - described["lower"]
    error = torch.where(value > mean, (value - mean) / above.clamp(min=TINY), (mean - value) / below.clamp(min=TINY))
    variance, square = likelihood.deviation_and_error(described, value)
    return torch.stack([error, square.square(), variance.square()])
