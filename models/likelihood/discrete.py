"""Likelihoods of what is one of few: Bernoulli and categorical."""

from torch import Tensor
from torch.nn import functional

from models.config import ModalityConfig
from models.likelihood.base import Likelihood, total


class BernoulliLikelihood(Likelihood):
    """Bernoulli(x; sigmoid(raw)) for every element; values between 0 and 1 count as probabilities of a 1."""

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """Sum of x log p + (1 - x) log(1 - p)."""
        return -total(functional.binary_cross_entropy_with_logits(raw, value, reduction="none"))

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Probability of a 1, averaged over the draws."""
        return {"probability": raw.sigmoid().mean(dim=0)}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """1 above the probability of a 0."""
        return (probability > 1 - raw.sigmoid()).float()

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """0 or 1, whichever is more likely."""
        return described["probability"].round()


class CategoricalLikelihood(Likelihood):
    """Categorical(x; softmax(raw)) over K categories."""

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality)
        if modality.categories is None:
            raise ValueError(f"modality {modality.name!r} has no categories, expected their number")
        self.parameter_shape = (modality.categories,)

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
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
