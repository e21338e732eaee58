"""The Bernoulli likelihood."""

from torch import Tensor
from torch.nn import functional

from models.likelihoods.base import Likelihood


class BernoulliLikelihood(Likelihood):
    """Bernoulli(x; sigmoid(raw)) for every element; values between 0 and 1 count as probabilities of a 1."""

    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """x log p + (1 - x) log(1 - p)."""
        return -functional.binary_cross_entropy_with_logits(raw, value, reduction="none")

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Probability of a 1, averaged over the draws."""
        return {"probability": raw.sigmoid().mean(dim=0)}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """1 above the probability of a 0."""
        return (probability > 1 - raw.sigmoid()).float()

    def point(self, described: dict[str, Tensor]) -> Tensor:
        """The probability of a 1."""
        return described["probability"]

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """0 or 1, whichever is more likely."""
        return described["probability"].round()
