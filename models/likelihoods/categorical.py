"""The categorical likelihood."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from models.config import ModalityConfig
from models.likelihoods.base import Likelihood
from models.likelihoods.metric import ErrorRate, Metric


class CategoricalLikelihood(Likelihood):
    """Categorical(x; softmax(raw)) over K categories."""

    metric: ClassVar[Metric] = ErrorRate()

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality)
        if modality.categories is None:
            raise ValueError(f"modality {modality.name!r} has no categories, expected their number")
        self.parameter_shape = (modality.categories,)

    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """log softmax(raw)[value]."""
        return -functional.cross_entropy(raw, value, reduction="none")

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Probabilities (N, K) averaged over the draws, and the most likely category (N,)."""
        probabilities = raw.softmax(dim=-1).mean(dim=0)
        return {"probabilities": probabilities, "category": probabilities.argmax(dim=-1)}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """The category at which the sum of the probabilities, in order of number, passes `probability`."""
        below = raw.softmax(dim=-1).cumsum(dim=-1)
        # Rounding may leave the sum of all below 1, and the last category may have probability 0.
        return (below[..., :-1] < probability.unsqueeze(-1) * below[..., -1:]).sum(dim=-1)

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The most likely category."""
        return described["category"]
