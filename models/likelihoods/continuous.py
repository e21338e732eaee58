"""Base class of likelihoods of real numbers around a centre that the decoder gives."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from models.config import ModalityConfig
from models.likelihoods.base import Likelihood, inner, total
from models.likelihoods.widening import Widening


class Continuous(Likelihood):
    """p(x; mu(y), s): mu from the decoder, the spread s fixed, learned, or from the decoder too.

    A vector has one scale per feature, for both standardisation and s: its features may differ in unit. Values of
    rank 2 and more, as images, have one scale in all: their elements share a unit, and a pixel that is the same in
    every sample would otherwise earn an unbounded density.

    A learned spread is the running average of the error that is its maximum-likelihood value given the decoder
    (arXiv:2006.13202, section 3.2); a gradient on log s moves too slowly and ends up worse.
    """

    # Weight of the past in the running average: about 50 batches.
    DECAY = 0.98
    # In units of the data's deviation: an error of 1 % of it is as good as none.
    FLOOR = 1e-2
    POWER: int
    """The error whose mean tells the spread: 2 for squared, 1 for absolute."""
    NORMALISATION: float

    offset: Tensor
    scale: Tensor
    moment: Tensor

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality, parameters=2 if modality.scale == "predicted" else 1)
        shape = modality.shape if len(modality.shape) <= 1 else (1,) * len(modality.shape)
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        # mean of |x - mu|^POWER, standardised
        self.register_buffer("moment", torch.ones(shape))
        self.widening = Widening(shape)
        self._fix()

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Standardise with these from now on; what never varies is only shifted."""
        mean, variance = mean.double(), standard_deviation.double().square()
        if len(self.modality.shape) > 1:
            variance = (variance.mean() + mean.var(correction=0)).expand_as(self.scale)
            mean = mean.mean().expand_as(self.offset)
        deviation = variance.sqrt()
        # float32 data that differ by rounding only do not vary.
        varies = deviation > 1e-6 * mean.abs()
        self.offset.copy_(mean)
        self.scale.copy_(torch.where(varies, deviation, 1.0))
        self._fix()

    def standardise(self, value: Tensor) -> Tensor:
        """(value - offset) / scale."""
        return (value - self.offset) / self.scale

    def centre_and_spread(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """mu and s, standardised; the spread broadcasts to the centre, (..., *shape)."""
        if self.modality.scale == "predicted":
            centre, unbounded = self.split(raw)
            return centre, functional.softplus(unbounded) + self.FLOOR
        spread: Tensor = self.moment.pow(1 / self.POWER)
        return raw, spread

    def log_prob(self, raw: Tensor, value: Tensor) -> Tensor:
        """log p(value; offset + scale mu, scale s), computed where numbers are of size 1."""
        centre, spread = self.centre_and_spread(raw)
        misfit = self.misfit((self.standardise(value) - centre) / spread)
        # what is the same for all values is not computed for each
        constant = self.scale.log() + self.NORMALISATION
        if self.modality.scale == "predicted":
            misfit = misfit + spread.log()
        else:
            constant = constant + spread.log()
        return -total(misfit) - constant.expand(self.modality.shape).sum()

    def profile(self, raw: Tensor, value: Tensor, row: Tensor, rows: int) -> Tensor:
        """n log(mean |x - mu|^POWER) / POWER over the row's n numbers: one bad row costs a logarithm, not a square."""
        centre, _ = self.centre_and_spread(raw)
        error = total((centre - self.standardise(value)).abs().pow(self.POWER))
        numbers = raw.new_zeros(rows).index_add(0, row, torch.full_like(error, value[0].numel() if len(value) else 1))
        mean = raw.new_zeros(rows).index_add(0, row, error) / numbers.clamp(min=1)
        return numbers * mean.clamp(min=self.FLOOR**self.POWER).log() / self.POWER

    @torch.no_grad()
    def errors(self, raw: Tensor, value: Tensor, present: Tensor) -> Tensor:
        """The number of present values, and the sums of their errors."""
        if self.modality.scale != "learned":
            return super().errors(raw, value, present)
        error = torch.where(self.mask(present), (raw - self.standardise(value)).abs().pow(self.POWER), 0.0)
        if len(self.modality.shape) > 1:
            error = error.flatten(1).mean(dim=1)
        sums = error.sum(dim=0).flatten()
        return torch.cat([present.sum().to(sums.dtype).reshape(1), sums])

    @torch.no_grad()
    def adapt(self, errors: Tensor) -> None:
        """One step of the running average of the mean error."""
        if not len(errors):
            return
        count, sums = errors[0], errors[1:]
        mean = (sums / count.clamp(min=1)).reshape(self.moment.shape)
        # A batch without this modality teaches nothing about it.
        weight = (1 - self.DECAY) * (count > 0)
        self.moment.lerp_(mean.clamp(min=self.FLOOR**self.POWER), weight)

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Mean and standard deviation of the mixture of the draws, by the law of total variance."""
        centre, spread = self.centre_and_spread(raw)
        within = (self.deviation(1.0) * spread).square().expand_as(centre).mean(dim=0)
        deviation = (within + centre.var(dim=0, correction=0)).sqrt() * self.scale
        return {"mean": self.offset + self.scale * centre.mean(dim=0), "standard_deviation": deviation}

    def widen(self, described: dict[str, Tensor], absence: Tensor, draws: int) -> dict[str, Tensor]:
        """Missing ones as `Widening` says."""
        widened: Tensor = self.widening(described["standard_deviation"] / self.scale, absence, draws)
        return {**described, "standard_deviation": widened * self.scale}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """offset + scale (mu + s F^-1(probability)), F of the standard density."""
        centre, spread = self.centre_and_spread(raw)
        return self.offset + self.scale * (centre + spread * self.standard_quantile(inner(probability)))

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The mean."""
        return described["mean"]

    @abstractmethod
    def misfit(self, ratio: Tensor) -> Tensor:
        """-log p of every element for (x - mu) / s, but for log s and NORMALISATION."""

    @abstractmethod
    def standard_quantile(self, probability: Tensor) -> Tensor:
        """The inverse distribution function for mu = 0 and s = 1."""

    @abstractmethod
    def deviation(self, spread: float) -> float:
        """The standard deviation that belongs to a spread."""

    def _fix(self) -> None:
        if not isinstance(self.modality.scale, str):
            self.moment.copy_((self.modality.scale / self.scale).pow(self.POWER))
