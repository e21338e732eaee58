"""Where the flow over codes starts: their linear regression on what is given, with the covariance that it leaves.

With few rows nothing learns a linear relation as well as a regression, and a network then has to learn only what
differs from it. One covariance of codes and given numbers answers for every set of given numbers (Bishop, 2006, Pattern
Recognition and Machine Learning, equations 2.81 and 2.82).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.gaussian import FLOOR

# Parts of the correlations that may be taken away, and the parts of the rows that choose among them. Few rows of few
# numbers choose one by one: of twelve rows, four fifths say little about the covariance of twelve.
SHRINKAGES = 0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0
FOLDS = 5
FEW_ROWS, FEW_NUMBERS = 100, 64
# Added to each variance for that choice: a number that follows from others has none of its own.
LEAST_VARIANCE = 1e-4
# Patterns of known numbers whose regressions are kept.
MAX_PATTERNS = 256
# Added to the unit variances of given numbers, some of which follow from others, such as the last of all categories.
RIDGE = 1e-6


class Given(NamedTuple):
    """Numbers that a regression takes of B rows, (B, F), and which of them are known, (B, F) bool."""

    numbers: Tensor
    known: Tensor


class Start(NamedTuple):
    """Gaussian distributions of standardised codes: of B rows, which share P patterns of what is known.

    mean: (B, C). factor: (P, C, C), the Cholesky factors of the covariances. pattern: (B,), each row's factor.
    """

    mean: Tensor
    factor: Tensor
    pattern: Tensor

    def codes(self, deviates: Tensor) -> Tensor:
        """mean + factor x for (..., B, C)."""
        found = torch.empty_like(deviates)
        for pattern, factor in enumerate(self.factor):
            own = self.pattern == pattern
            found[..., own, :] = deviates[..., own, :] @ factor.T
        return self.mean + found

    def deviates(self, codes: Tensor) -> Tensor:
        """The x of which `codes` makes these codes: (B, C) -> (B, C)."""
        apart = codes - self.mean
        found = torch.empty_like(apart)
        for pattern, factor in enumerate(self.factor):
            own = self.pattern == pattern
            found[own] = torch.linalg.solve_triangular(factor, apart[own].T, upper=False).T
        return found


class LinearStart(nn.Module):
    """p(code | given numbers) of a joint Gaussian distribution.

    C features of a code, of which the last V are themselves among the F given numbers: their first V. The covariance is
    that of the C code features and the F - V other numbers, all standardised. noise: (C,), standard deviations that
    every code has beside its covariance.
    """

    covariance: Tensor
    mean: Tensor
    deviation: Tensor
    noise: Tensor

    def __init__(self, values: int, others: int, noise: Tensor) -> None:
        super().__init__()
        self.values = values
        self.register_buffer("noise", noise)
        self.register_buffer("covariance", torch.eye(len(noise) + others))
        self.register_buffer("mean", torch.zeros(others))
        self.register_buffer("deviation", torch.ones(others))
        self._patterns: dict[tuple[torch.device, bytes], tuple[Tensor, Tensor]] = {}
        self.register_load_state_dict_post_hook(lambda *_: self._patterns.clear())  # type: ignore[no-untyped-call]

    def fit(self, codes: Tensor, given: Tensor) -> None:
        """Take the covariance of standardised codes (N, C) and given numbers (N, F), all known.

        Correlations shrink towards 0 by the part under which rows that were left out are most likely.
        """
        others = given[:, self.values :]
        self.mean.copy_(others.mean(dim=0))
        self.deviation.copy_((others - self.mean).square().mean(dim=0).sqrt().clamp(min=FLOOR))
        joint = torch.cat([codes, (others - self.mean) / self.deviation], dim=1).double()
        joint = joint - joint.mean(dim=0)
        self.covariance.copy_(shrunk(joint.T @ joint / len(joint), likeliest_shrinkage(joint)))
        self._patterns.clear()

    def forward(self, given: Given) -> Start:
        """The distribution of the code of each row."""
        others = (given.numbers[:, self.values :] - self.mean) / self.deviation
        numbers = torch.where(given.known, torch.cat([given.numbers[:, : self.values], others], dim=1), 0)
        known, pattern = patterns_of(given.known)
        found = [self._of_pattern(each) for each in known]
        mean = numbers.new_zeros(len(numbers), len(self.noise))
        for number, (weight, _) in enumerate(found):
            own = pattern == number
            mean[own] = numbers[own] @ weight.T
        return Start(mean, torch.stack([factor for _, factor in found]), pattern)

    def _of_pattern(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """The regression's weights (C, F) and the factor of what it leaves (C, C), for known numbers (F,)."""
        key = known.device, known.cpu().numpy().tobytes()
        if (found := self._patterns.get(key)) is not None:
            return found
        joint, codes = self.covariance.double(), len(self.noise)
        first = codes - self.values
        among = joint[first:, first:][known][:, known]
        among.diagonal().add_(RIDGE)
        across = joint[:codes, first:][:, known]
        weight = torch.linalg.solve(among, across.mT).mT
        left = joint[:codes, :codes] - weight @ across.mT + torch.diag(self.noise.double().square())
        every = joint.new_zeros(codes, len(known))
        every[:, known] = weight
        found = every.to(self.covariance.dtype), torch.linalg.cholesky(left).to(self.covariance.dtype)
        if len(self._patterns) >= MAX_PATTERNS:
            self._patterns.clear()
        self._patterns[key] = found
        return found


def patterns_of(known: Tensor) -> tuple[Tensor, Tensor]:
    """The P different rows of a mask (B, F), and which of them each row is: (P, F) and (B,)."""
    packed = np.packbits(known.cpu().numpy(), axis=1)
    _, first, inverse = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return known[torch.from_numpy(first).to(known.device)], torch.from_numpy(inverse.reshape(-1)).to(known.device)


def shrunk(covariance: Tensor, part: float) -> Tensor:
    """The covariance with this part of its correlations taken away."""
    return torch.lerp(covariance, torch.diag(covariance.diagonal()), part)


def likeliest_shrinkage(joint: Tensor) -> float:
    """The one of SHRINKAGES with the largest log-likelihood of left-out rows. joint: (N, U), centred."""
    is_small = len(joint) <= FEW_ROWS and joint.shape[1] <= FEW_NUMBERS
    count = len(joint) if is_small else FOLDS
    folds = [joint[fold::count] for fold in range(count)]
    found = dict.fromkeys(SHRINKAGES, 0.0)
    for fold, left_out in enumerate(folds):
        others = torch.cat(folds[:fold] + folds[fold + 1 :])
        covariance = others.T @ others / len(others)
        for part in SHRINKAGES:
            own = shrunk(covariance, part) + LEAST_VARIANCE * torch.eye(len(covariance)).to(covariance)
            factor = torch.linalg.cholesky(own)
            deviates = torch.linalg.solve_triangular(factor, left_out.T, upper=False)
            log_determinant = 2 * factor.diagonal().log().sum()
            found[part] -= float(deviates.square().sum() + len(left_out) * log_determinant) / 2
    return max(found, key=lambda part: found[part])
