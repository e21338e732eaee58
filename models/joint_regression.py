"""The regression of unknown numbers on known ones, for every set of known numbers, from one covariance."""

import torch
from torch import Tensor, nn

from models.gaussian import FLOOR
from models.linear_start import Given, patterns_of

# Added to the unit variances of known numbers, some of which follow from others. The covariance is rounded to float32:
# a smaller one might leave that of a thousand numbers without a Cholesky factor.
RIDGE = 1e-4


class JointRegression(nn.Module):
    """E[unknown | known] of U numbers with a joint Gaussian distribution (Bishop, 2006, equation 2.81).

    shrinkage: (U,), the part of the correlations that is taken away to predict a number. rows: how many rows it was
    fitted to. Before that it predicts 0 for all that is unknown.
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
        self.register_buffer("shrinkage", torch.zeros(numbers))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    def fit(self, numbers: Tensor) -> None:
        """Take the moments of complete rows, (N, U)."""
        self.mean.copy_(numbers.mean(dim=0))
        self.deviation.copy_((numbers - self.mean).square().mean(dim=0).sqrt().clamp(min=FLOOR))
        standardised = ((numbers - self.mean) / self.deviation).double()
        self.covariance.copy_(standardised.T @ standardised / len(standardised))
        self.rows.fill_(len(numbers))

    def forward(self, given: Given, place: slice) -> Tensor:
        """The numbers at a place, which share a shrinkage: known ones as they are, and expectations of others, (B, S).

        given: all U numbers.
        """
        numbers = torch.where(given.known, (given.numbers - self.mean) / self.deviation, 0).double()
        covariance, found = self.covariance.double(), numbers[:, place].clone()
        kept = 1 - float(self.shrinkage[place][0])
        here = torch.zeros_like(given.known[0])
        here[place] = True
        every, pattern = patterns_of(given.known)
        for number, known in enumerate(every):
            wanted = here & ~known
            if not bool(wanted.any()) or not bool(known.any()):
                continue
            own = torch.nonzero(pattern == number).squeeze(1)
            among = covariance[known][:, known]
            variance = among.diagonal().clone()
            among = kept * among
            among.diagonal().copy_(variance + RIDGE)
            solved = torch.cholesky_solve(numbers[own][:, known].T, torch.linalg.cholesky(among))
            columns = torch.nonzero(wanted[place]).squeeze(1)
            found[own.unsqueeze(1), columns] = (kept * covariance[wanted][:, known] @ solved).T
        return self.mean[place] + self.deviation[place] * found.to(self.mean.dtype)
