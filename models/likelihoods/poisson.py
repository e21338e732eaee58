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

    def distribution_parameters(self, raw: Tensor) -> tuple[Array, ...]:
        """lambda."""
        return (self.variance(raw).cpu().numpy(),)

    @staticmethod
    def distribution(count: Array, *parameters: Array) -> Array:
        """The regularised upper incomplete gamma function Q(count + 1, lambda)."""
        (rate,) = parameters
        found: Array = special.pdtr(count, rate)
        return found
