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
MAX_FEATURES = 1024
FLOW, NETWORK, LINEAR = range(3)
TOGETHER, IN_PART = -2, -1
"""The last columns of the weights."""
PREDICTIONS = 3
# Added to the diagonal of the errors' products, in parts of their mean: predictions may be the same.
RIDGE = 1e-9


class Products(NamedTuple):
    """Sums over elements of held-out rows of the products of the three predictions' errors, (3, 3); number of rows."""

    errors: Tensor
    rows: int


class Stacking(nn.Module):
    """The regression, and the weights (M, P + 2, 3) of M modalities under P patterns of what is given.

    The last columns are those of all patterns together, and of a modality that is given in part. Before `set_weights`
    the flow's prediction counts alone. places: where each modality is among the regression's numbers.
    """

    weight: Tensor
    rows: Tensor

    def __init__(self, modalities: Sequence[ModalityConfig]) -> None:
        super().__init__()
        self.names = [modality.name for modality in modalities]
        self.patterns = 2 ** len(modalities) if len(modalities) <= MAX_MODALITIES else 0
        self.places: dict[str, slice] = {}
        end = 0
        for modality in sorted(modalities, key=elements_of):
            size = elements_of(modality)
            if end + size <= MAX_FEATURES:
                self.places[modality.name] = slice(end, end + size)
                end += size
        self.regression = JointRegression(end)
        weight = torch.zeros(len(modalities), self.patterns + 2, PREDICTIONS)
        weight[..., FLOW] = 1
        self.register_buffer("weight", weight)
        self.register_buffer("rows", torch.zeros(len(modalities), self.patterns + 2, dtype=torch.int64))

    def weights(self, name: str, pattern: Tensor, in_part: Tensor) -> Tensor:
        """The weights of each row: (B, 3). pattern, in_part: (B,), is the modality itself given in part."""
        index = self.names.index(name)
        has_own = (self.rows[index, pattern] >= MIN_ROWS) & bool(self.patterns) & ~in_part
        others = torch.where(in_part.unsqueeze(1), self.weight[index, IN_PART], self.weight[index, TOGETHER])
        return torch.where(has_own.unsqueeze(1), self.weight[index, pattern], others)

    def set_weights(self, name: str, products: Mapping[int, Products], rows: int) -> None:
        """Take the weights with the smallest error. products: of each pattern. rows: the number of all these rows."""
        if self.patterns:
            for pattern, each in products.items():
                if each.rows >= MIN_ROWS:
                    self._set(name, pattern, each)
        self._set(name, TOGETHER, Products(torch.stack([each.errors for each in products.values()]).sum(dim=0), rows))

    def set_weights_in_part(self, name: str, products: Products) -> None:
        """The same for a modality that is given in part."""
        self._set(name, IN_PART, products)

    def trust_regression(self, name: str) -> None:
        """Take the regression's prediction alone."""
        self.weight[self.names.index(name), [TOGETHER, IN_PART]] = torch.eye(PREDICTIONS)[LINEAR].to(self.weight)

    def _set(self, name: str, column: int, products: Products) -> None:
        index = self.names.index(name)
        self.weight[index, column] = best_weights(products.errors)
        self.rows[index, column] = products.rows


def elements_of(modality: ModalityConfig) -> int:
    """How many numbers a regression takes of a modality: a one-hot vector for each category, or all its elements."""
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
