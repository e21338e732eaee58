"""Factors that make draws of missing values as wide as the errors on held-out rows."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.config import ModalityConfig
from models.config.calibrations import CALIBRATIONS

# With more modalities the patterns are too many, and all share the pooled factors.
MAX_MODALITIES = 6
# Fewer held-out rows are too few for a 90 % quantile of their own.
MIN_ROWS = 100
NONE, POOLED, PATTERN = (CALIBRATIONS.index(name) for name in ("none", "pooled", "pattern"))


class Width(NamedTuple):
    """How far draws are moved away from their mean, (B,), and how that was fitted, (B,) of CALIBRATIONS' positions."""

    factor: Tensor
    calibration: Tensor


class DrawCalibration(nn.Module):
    """Two corrections of a draw, for each modality.

    noise: the ratio of the error of a decoded code to the likelihood's own spread. The spread is learned from codes of
    all subsets of the modalities, most of which say less about a value than the codes that are drawn here.
    factor: the width of draws around their mean for each pattern, the set of given modalities, as split conformal
    inference finds it (arXiv:1604.04173); the last column is that of all patterns together.
    """

    factor: Tensor
    rows: Tensor

    def __init__(self, modalities: Sequence[ModalityConfig]) -> None:
        super().__init__()
        self.names = [modality.name for modality in modalities]
        self.patterns = 2 ** len(modalities) if len(modalities) <= MAX_MODALITIES else 0
        for index, modality in enumerate(modalities):
            # the elements of an image share a unit, as in the likelihoods
            self.register_buffer(f"noise_{index}", torch.ones(modality.shape if len(modality.shape) < 2 else ()))
        self.register_buffer("factor", torch.ones(len(modalities), self.patterns + 1))
        self.register_buffer("rows", torch.zeros(len(modalities), self.patterns + 1, dtype=torch.int64))

    def noise(self, name: str) -> Tensor:
        """The ratio of spreads of a modality, which broadcasts to (*shape)."""
        found: Tensor = self.get_buffer(f"noise_{self.names.index(name)}")
        return found

    def pattern(self, inputs: Batch) -> Tensor:
        """The number of each row's pattern, (B,): bit i says whether it has the i-th modality, in whole or in part."""
        if not self.patterns:
            return torch.zeros(inputs.rows, dtype=torch.int64, device=self.factor.device)
        bits = [inputs.observed(name).long() << index for index, name in enumerate(self.names) if name in inputs.values]
        return torch.stack(bits).sum(dim=0)

    def width(self, name: str, inputs: Batch) -> Width:
        """The factor of each row for one modality."""
        index, pattern = self.names.index(name), self.pattern(inputs)
        has_own = (self.rows[index, pattern] >= MIN_ROWS) & bool(self.patterns)
        has_pooled = self.rows[index, -1] >= MIN_ROWS
        factor = torch.where(has_own, self.factor[index, pattern], self.factor[index, -1])
        calibration = torch.where(has_own, PATTERN, torch.where(has_pooled, POOLED, NONE))
        return Width(factor, calibration)

    def set_factors(self, name: str, scores: dict[int, Tensor], level: float) -> None:
        """Take the factors of one modality from the scores of held-out rows, pattern -> (rows, elements).

        A score is the error of an element over the half-width of its interval. Elements that are not known are NaN.
        """
        index, own = self.names.index(name), scores.items() if self.patterns else ()
        for pattern, score in [*own, (-1, torch.cat(list(scores.values())))]:
            known = score[~score.isnan()]
            if len(score) >= MIN_ROWS and len(known):
                rank = min(len(known), round(level * (len(known) + 1)))
                self.factor[index, pattern] = known.kthvalue(max(1, rank)).values
                self.rows[index, pattern] = len(score)
