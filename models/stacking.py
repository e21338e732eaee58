"""The mean of draws as a weighted mean of three predictions: of the flow, of the networks, and of a linear regression.

What predicts best differs between data, and between the sets of what is given. So held-out rows choose the weights
(stacked regressions: Breiman, 1996, doi:10.1007/BF00117832).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.config import ModalityConfig
from models.draw_calibration import MAX_MODALITIES, MIN_ROWS, TINY
from models.joint_regression import JointRegression

# The regression takes the smallest modalities whose numbers are at most so many together.
MAX_NUMBERS = 1024
FLOW, NETWORK, LINEAR = range(3)
PREDICTIONS = 3
# Added to the diagonal of the errors' products, in parts of their mean: predictions may be the same.
RIDGE = 1e-9


class Products(NamedTuple):
    """Sums over elements of held-out rows of the products of the three predictions' errors, (3, 3); number of rows."""

    errors: Tensor
    rows: int


class Stacking(nn.Module):
    """The regression, and the weights (M, P + 1, 3) of M modalities under P patterns of what is given.

    The last column is that of all patterns together. Before `set_weights` the flow's prediction counts alone. places:
    where each modality is among the regression's numbers.
    """

    weight: Tensor
    rows: Tensor

    def __init__(self, modalities: Sequence[ModalityConfig]) -> None:
        super().__init__()
        self.names = [modality.name for modality in modalities]
        self.patterns = 2 ** len(modalities) if len(modalities) <= MAX_MODALITIES else 0
        self.places: dict[str, slice] = {}
        end = 0
        for modality in sorted(modalities, key=numbers_of):
            size = numbers_of(modality)
            if end + size <= MAX_NUMBERS:
                self.places[modality.name] = slice(end, end + size)
                end += size
        self.regression = JointRegression(end)
        weight = torch.zeros(len(modalities), self.patterns + 1, PREDICTIONS)
        weight[..., FLOW] = 1
        self.register_buffer("weight", weight)
        self.register_buffer("rows", torch.zeros(len(modalities), self.patterns + 1, dtype=torch.int64))

    def weights(self, name: str, pattern: Tensor) -> Tensor:
        """The weights of each row: pattern (B,) -> (B, 3)."""
        index = self.names.index(name)
        has_own = (self.rows[index, pattern] >= MIN_ROWS) & bool(self.patterns)
        return torch.where(has_own.unsqueeze(1), self.weight[index, pattern], self.weight[index, -1])

    def set_weights(self, name: str, products: Mapping[int, Products], rows: int) -> None:
        """Take the weights with the smallest error. products: of each pattern. rows: the number of all these rows."""
        index = self.names.index(name)
        own = products.items() if self.patterns else ()
        together = Products(torch.stack([each.errors for each in products.values()]).sum(dim=0), rows)
        for pattern, each in [*((pattern, each) for pattern, each in own if each.rows >= MIN_ROWS), (-1, together)]:
            self.weight[index, pattern] = best_weights(each.errors)
            self.rows[index, pattern] = each.rows

    def trust_regression(self, name: str) -> None:
        """Take the regression's prediction alone."""
        self.weight[self.names.index(name), -1] = torch.eye(PREDICTIONS)[LINEAR]


def numbers_of(modality: ModalityConfig) -> int:
    """How many numbers the regression takes of a modality: a one-hot vector, or all its elements."""
    return (modality.categories or 1) * math.prod(modality.shape)


def best_weights(errors: Tensor) -> Tensor:
    """The w that minimise w^T E w, not negative and with sum 1, for products of errors E (K, K): (K,)."""
    errors = errors.double().cpu()
    errors = errors / errors.diagonal().mean().clamp(min=TINY) + RIDGE * torch.eye(len(errors))
    best, least = torch.eye(len(errors), dtype=torch.float64)[0], math.inf
    for size in range(1, len(errors) + 1):
        for chosen in map(list, combinations(range(len(errors)), size)):
            among = torch.linalg.solve(errors[chosen][:, chosen], torch.ones(size, dtype=torch.float64))
            weight = torch.zeros_like(best)
            weight[chosen] = among / among.sum()
            error = float(weight @ errors @ weight)
            if bool((weight >= 0).all()) and error < least:
                best, least = weight, error
    return best
