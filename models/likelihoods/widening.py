"""Factors of the predicted standard deviations of missing values, fitted to held-out data."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

LEVEL = 0.9
# The share LEVEL of a Gaussian lies within this many standard deviations.
INTERVAL = 1.6448536
KNOTS = 6
# Fewer errors are too few to estimate their 90 % quantile.
MIN_ERRORS = 100
# A curve over deviations that differ by less would fit noise.
MIN_SPREAD = 1e-3


class Widening(nn.Module):
    """Factors that make nine of ten errors lie within 1.645 predicted deviations: locally weighted split conformal
    inference (arXiv:1604.04173, section 5.2), one curve over the deviation for each of four cases.

    The cases: predictions without and with draws; values of which other modalities are given, and values of which none
    is (`Batch.absence` 1 and 2). A curve, because one spread learned from easy and hard cases is too wide for easy ones
    and too narrow for hard ones. Deviations are standardised. shape: the shape of the spread, one per feature.
    """

    at: Tensor
    """Logarithms of deviations, (2, 2, KNOTS, *shape)."""
    logarithm: Tensor
    """Logarithms of the factors there: linear between the knots, constant outside them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("at", torch.zeros(2, 2, KNOTS, *shape))
        self.register_buffer("logarithm", torch.zeros(2, 2, KNOTS, *shape))
        self.register_load_state_dict_pre_hook(_add_missing)  # type: ignore[no-untyped-call] # not annotated

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` had enough errors for all cases."""
        return bool(((self.at != 0) | (self.logarithm != 0)).flatten(2).any(dim=-1).all())

    def forward(self, deviation: Tensor, absence: Tensor, draws: int) -> Tensor:
        """Deviations (N, *shape) with those of missing values widened. absence: (N,) of 0, 1 and 2."""
        place, widened = deviation.log(), deviation
        absence = absence.reshape(-1, *[1] * (deviation.ndim - 1))
        for kind in (1, 2):
            at, logarithm = self.at[int(draws > 1), kind - 1], self.logarithm[int(draws > 1), kind - 1]
            part = (place - at[:-1].unsqueeze(1)) / at.diff(dim=0).clamp(min=1e-6).unsqueeze(1)  # (KNOTS - 1, N, ...)
            grown = logarithm[0] + (part.clamp(0, 1) * logarithm.diff(dim=0).unsqueeze(1)).sum(dim=0)
            widened = torch.where(absence == kind, deviation * grown.exp(), widened)
        return widened

    def fit(self, deviation: Tensor, error: Tensor, absence: Tensor, mask: Tensor | None = None) -> None:
        """Take the factors from held-out missing values: deviation, |error| (2, N, *shape), of both ways; absence (N,).

        mask: (N, *shape) bool, the elements whose errors are known; None for all. The features have their own curves
        where each has enough errors, else all have the modality's; too few errors leave factors of 1.
        """
        features = self.at[0, 0, 0].numel()
        for kind in (1, 2):
            own = absence == kind
            chosen = own if int(own.sum()) >= MIN_ERRORS else torch.ones_like(own)
            known = None if mask is None else mask[chosen].reshape(-1, features)
            for way in (0, 1):
                pair = [part[way, chosen].reshape(-1, features) for part in (deviation, error)]
                columns = _columns(pair, known)
                if len(columns[0][0]) < MIN_ERRORS:
                    continue
                curves = [_curve(*column) for column in columns]
                at, logarithm = (torch.stack(part, dim=1) for part in zip(*curves, strict=True))  # (KNOTS, features)
                shape = self.at.shape[2:] if len(columns) > 1 else (KNOTS, *[1] * (self.at.ndim - 3))
                self.at[way, kind - 1] = at.reshape(shape)
                self.logarithm[way, kind - 1] = logarithm.reshape(shape)


def _add_missing(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
    """Load a checkpoint that is older than calibration as an uncalibrated model."""
    for name, buffer in module.named_buffers(recurse=False):
        state_dict.setdefault(prefix + name, torch.zeros(buffer.shape))


def _columns(pair: Sequence[Tensor], known: Tensor | None) -> list[tuple[Tensor, ...]]:
    """Deviations and errors, each (N, features), of each feature: (n,) twice; of all together where a feature has few.

    known: (N, features) bool, or None for all.
    """
    columns = [*zip(*(part.unbind(dim=1) for part in pair), strict=True)]
    if known is not None:
        columns = [tuple(part[of] for part in column) for column, of in zip(columns, known.T, strict=True)]
    if min(len(column[0]) for column in columns) >= MIN_ERRORS:
        return columns
    return [tuple(part.flatten() if known is None else part[known] for part in pair)]


def _curve(deviation: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """The knots of one feature, and the logarithms of its factors there: (KNOTS,) each."""
    place, order = deviation.double().log().sort()
    ratio = (error.double() / deviation.double())[order]
    bins = min(KNOTS, len(place) // MIN_ERRORS) if place[-1] - place[0] > MIN_SPREAD else 1
    pieces = list(zip(place.tensor_split(bins), ratio.tensor_split(bins), strict=True))
    at = torch.stack([where.mean() for where, _ in pieces])
    factors = torch.stack([_quantile(piece) / INTERVAL for _, piece in pieces]).clamp(min=1e-6)
    last = KNOTS - bins
    return torch.cat([at, at[-1:].repeat(last)]), torch.cat([factors.log(), factors[-1:].log().repeat(last)])


def _quantile(ratio: Tensor) -> Tensor:
    """The quantile at LEVEL. `torch.quantile` takes at most 16 million values."""
    return ratio.kthvalue(max(1, round(LEVEL * len(ratio)))).values
