"""The Poisson likelihood."""

from scipy import special
from torch import Tensor

from models.likelihoods.counts import Array, Count


class PoissonLikelihood(Count):
    """Poisson(x; lambda): variance lambda."""

    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """x log lambda - lambda - log x!."""
        log_rate = self.log_rate(raw)
        return value * log_rate - log_rate.exp() - (value + 1).lgamma()

    def variance(self, raw: Tensor) -> Tensor:
        """lambda."""
        return self.log_rate(raw).exp()

    def distribution(self, raw: Tensor, count: Array) -> Array:
        """The regularised upper incomplete gamma function Q(count + 1, lambda)."""
        found: Array = special.pdtr(count, self.variance(raw).cpu().numpy())
        return found

    def real_quantile(self, raw: Tensor, probability: Array) -> Array:
        """The inverse of `distribution` in the count."""
        found: Array = special.pdtrik(probability, self.variance(raw).cpu().numpy())
        return found
