"""The regression of unknown numbers on known ones, for every set of known numbers, from one covariance."""

import torch
from torch import Tensor, nn

from models.gaussian import FLOOR
from models.linear_start import Given, patterns_of, shrunk

# Added to the unit variances of known numbers, some of which follow from others. The covariance is rounded to float32:
# a smaller one might leave that of a thousand numbers without a Cholesky factor.
RIDGE = 1e-4


class JointRegression(nn.Module):
    """E[unknown | known] of U numbers with a joint Gaussian distribution (Bishop, 2006, equation 2.81).

    rows: how many rows it was fitted to. Before that it predicts 0 for all that is unknown.
    """

    mean: Tensor
    deviation: Tensor
    covariance: Tensor
    shrinkage: Tensor
    rows: Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("deviation", torch.ones(numbers))
        self.register_buffer("covariance", torch.eye(numbers))
        self.register_buffer("shrinkage", torch.zeros(()))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    def fit(self, numbers: Tensor, shrinkage: float) -> None:
        """Take the moments of complete rows, (N, U). shrinkage: the part of the correlations that is taken away."""
        self.mean.copy_(numbers.mean(dim=0))
        self.deviation.copy_((numbers - self.mean).square().mean(dim=0).sqrt().clamp(min=FLOOR))
        standardised = ((numbers - self.mean) / self.deviation).double()
        self.covariance.copy_(shrunk(standardised.T @ standardised / len(standardised), shrinkage))
        self.shrinkage.fill_(shrinkage)
        self.rows.fill_(len(numbers))

    def forward(self, given: Given) -> Tensor:
        """(B, U): the known numbers as they are, and the expectations of the others."""
        numbers = torch.where(given.known, (given.numbers - self.mean) / self.deviation, 0).double()
        covariance, found = self.covariance.double(), numbers.clone()
        every, pattern = patterns_of(given.known)
        for number, known in enumerate(every):
            if bool(known.all()) or not bool(known.any()):
                continue
            own = torch.nonzero(pattern == number).squeeze(1)
            among = covariance[known][:, known]
            among.diagonal().add_(RIDGE)
            solved = torch.cholesky_solve(numbers[own][:, known].T, torch.linalg.cholesky(among))
            found[own.unsqueeze(1), torch.nonzero(~known).squeeze(1)] = (covariance[~known][:, known] @ solved).T
        return self.mean + self.deviation * found.to(self.mean.dtype)
