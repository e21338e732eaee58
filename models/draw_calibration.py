"""Factors that make draws of missing values as wide as the errors on held-out rows."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.config import ModalityConfig
from models.config.calibrations import CALIBRATIONS

# With more modalities the patterns are too many, and all share the pooled factors.
MAX_MODALITIES = 6
# Fewer held-out rows are too few for a 90 % quantile of their own. A sequence has an error for each step.
MIN_ROWS = 100
MIN_SEQUENCES = 30
# A ratio of spreads needs fewer errors: with 20 it is known to about 15 %.
MIN_ERRORS = 20
LEAST_NOISE = 0.01
TINY = 1e-12
NONE, POOLED, PATTERN = (CALIBRATIONS.index(name) for name in ("none", "pooled", "pattern"))


class Width(NamedTuple):
    """How far draws are moved away from their mean, and how that was fitted, as CALIBRATIONS' positions.

    (B,) for samples, (B, T) for the steps of sequences.
    """

    factor: Tensor
    calibration: Tensor


class Scores(NamedTuple):
    """Three numbers of each of N elements of held-out rows, (3, N), and the number of these rows.

    The error over the half-width of the element's interval; the squares of the error and of the draws' deviation, both
    standardised.
    """

    of_elements: Tensor
    rows: int

    def factor(self, level: float) -> float:
        """The width at which intervals hold `level` of the values; not narrower than half-way to what variances say.

        Values that are often exactly the same, as a pixel at the border, lie inside any interval: 90 % quantiles of the
        digits of a label hold .966. A factor that makes it .9 would take a third of the variance away. So factors below
        1 are the geometric mean with the ratio of the error's deviation to that of the draws, if that is larger.
        """
        errors, squares, variances = self.of_elements
        rank = min(len(errors), round(level * (len(errors) + 1)))
        width = float(errors.kthvalue(max(1, rank)).values)
        if width >= 1:
            return width
        ratio = (squares.sum() / variances.sum().clamp(min=TINY)).sqrt().item()
        return math.sqrt(width * min(max(ratio, width), 1.0))


class DrawCalibration(nn.Module):
    """Two corrections of a draw, for each modality.

    noise: the ratio of the error of a decoded code to the likelihood's own spread. The spread is learned from codes of
    all subsets of the modalities, most of which say less about a value than the codes that are drawn here.
    factor: the width of draws around their mean for each pattern, the set of given modalities, as split conformal
    inference finds it (arXiv:1604.04173), but see `Scores.factor`; the last column is that of all patterns together.
    """

    factor: Tensor
    rows: Tensor
    min_rows = MIN_ROWS
    min_errors = MIN_ERRORS

    def __init__(self, modalities: Sequence[ModalityConfig], exact: Collection[str] = ()) -> None:
        """exact: the modalities whose values are parts of the code, and are decoded without an error."""
        super().__init__()
        self.names = [modality.name for modality in modalities]
        self.patterns = self.count_patterns(len(modalities))
        for index, modality in enumerate(modalities):
            # the elements of an image share a unit, as in the likelihoods
            noise = torch.ones(modality.shape if len(modality.shape) < 2 else ())
            self.register_buffer(f"noise_{index}", LEAST_NOISE * noise if modality.name in exact else noise)
        self.register_buffer("factor", torch.ones(len(modalities), self.patterns + 1))
        self.register_buffer("rows", torch.zeros(len(modalities), self.patterns + 1, dtype=torch.int64))

    def noise(self, name: str) -> Tensor:
        """The ratio of spreads of a modality, which broadcasts to (*shape)."""
        found: Tensor = self.get_buffer(f"noise_{self.names.index(name)}")
        return found

    def count_patterns(self, modalities: int) -> int:
        """How many patterns have factors of their own; 0: all share the pooled one."""
        return 2**modalities if modalities <= MAX_MODALITIES else 0

    def pattern(self, name: str, inputs: Batch) -> Tensor:
        """The number of each row's pattern, (B,): bit i says whether it has the i-th modality, in whole or in part."""
        if not self.patterns:
            return torch.zeros(inputs.rows, dtype=torch.int64, device=self.factor.device)
        bits = [inputs.observed(name).long() << index for index, name in enumerate(self.names) if name in inputs.values]
        return torch.stack(bits).sum(dim=0)

    def width(self, name: str, inputs: Batch) -> Width:
        """The factor of each row, or of each step, for one modality."""
        index, pattern = self.names.index(name), self.pattern(name, inputs)
        has_own = (self.rows[index, pattern] >= self.min_rows) & bool(self.patterns)
        has_pooled = self.rows[index, -1] >= self.min_rows
        factor = torch.where(has_own, self.factor[index, pattern], self.factor[index, -1])
        calibration = torch.where(has_own, PATTERN, torch.where(has_pooled, POOLED, NONE))
        return Width(factor, calibration)

    def set_factors(self, name: str, scores: Mapping[int, Scores], rows: int, level: float) -> None:
        """Take the factors of one modality from the scores of held-out rows by their pattern; few change nothing.

        rows: the number of all these rows. A row may have several patterns.
        """
        if not scores:
            return
        index, own = self.names.index(name), scores.items() if self.patterns else ()
        together = torch.cat([score.of_elements for score in scores.values()], dim=1)
        for pattern, score in [*own, (-1, Scores(together, rows))]:
            if score.rows >= self.min_rows and score.of_elements.shape[1]:
                self.factor[index, pattern] = score.factor(level)
                self.rows[index, pattern] = score.rows


class SequenceDrawCalibration(DrawCalibration):
    """The same for sequences, whose steps have patterns of their own.

    A pattern says of a step without a value of the modality: is another modality given there (1), and is the modality
    itself given at an earlier step (2), and at a later one (4).
    """

    min_rows = MIN_SEQUENCES
    min_errors = MIN_SEQUENCES

    def count_patterns(self, modalities: int) -> int:
        """8 for any number of modalities."""
        return 8

    def pattern(self, name: str, inputs: Batch) -> Tensor:
        """The number of each step's pattern, (B, T)."""
        valid = inputs.valid
        own = inputs.observed(name) if name in inputs.values else torch.zeros_like(valid)
        others = [inputs.observed(other) for other in inputs.values if other != name]
        beside = torch.stack(others).any(dim=0) if others else torch.zeros_like(valid)
        before = own.long().cumsum(dim=1) > 0
        after = own.long().flip(1).cumsum(dim=1).flip(1) > 0
        return beside + 2 * before.long() + 4 * after.long()
