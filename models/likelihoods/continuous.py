"""Base class of likelihoods of real numbers around a centre that the decoder gives."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from models.config import ModalityConfig
from models.likelihoods.base import InputTransform, Likelihood, inner, total
from models.likelihoods.widening import INTERVAL, Widening


class Continuous(Likelihood):
    """p(x; mu(y), s): mu from the decoder; the spread s is fixed, learned, or from the decoder too.

    A vector has one scale per feature, for standardisation and for s: its features may differ in unit. A value of rank
    2 or more, such as an image, has one scale in all: its elements share a unit, and a pixel that is the same in every
    sample would otherwise have an unbounded density.

    A learned spread is the running average of the error that is its maximum-likelihood value given the decoder
    (arXiv:2006.13202, section 3.2); a gradient on log s moves too slowly and ends up worse.
    """

    needs_statistics: ClassVar[bool] = True
    has_intervals: ClassVar[bool] = True
    # weight of the past in the running average: about 50 batches
    DECAY = 0.98
    # in units of the data's deviation: smaller errors count as 1 % of it
    FLOOR = 1e-2
    POWER: ClassVar[int]
    """The error whose mean gives the spread: 2 for squared, 1 for absolute."""
    NORMALISATION: ClassVar[float]

    offset: Tensor
    scale: Tensor
    moment: Tensor

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__(modality)
        shape = modality.shape if len(modality.shape) <= 1 else (1,) * len(modality.shape)
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        # mean of |x - mu|^POWER, standardised
        self.register_buffer("moment", torch.ones(shape))
        self.widening = Widening(shape)
        self._fix()

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Standardise with these; an element that never varies is only shifted."""
        mean, variance = mean.double(), standard_deviation.double().square()
        if len(self.modality.shape) > 1:
            variance = (variance.mean() + mean.var(correction=0)).expand_as(self.scale)
            mean = mean.mean().expand_as(self.offset)
        deviation = variance.sqrt()
        # float32 numbers that differ by rounding only do not vary
        varies = deviation > 1e-6 * mean.abs()
        self.offset.copy_(mean)
        self.scale.copy_(torch.where(varies, deviation, 1.0))
        self._fix()

    def input_transform(self) -> InputTransform:
        """(x - offset) / scale."""
        return InputTransform(log1p=False, offset=self.offset, scale=self.scale)

    def centre_and_spread(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """mu and s, standardised; the spread broadcasts to the centre, (..., *shape)."""
        if self.modality.scale == "predicted":
            centre, unbounded = self.split(raw)
            return centre, functional.softplus(unbounded) + self.FLOOR
        spread: Tensor = self.moment.pow(1 / self.POWER)
        return raw, spread

    def moved(self, raw: Tensor, distance: Tensor) -> Tensor:
        """The parameters with this added to mu: raw (..., *parameter_shape), distance (..., *shape)."""
        if self.modality.scale != "predicted":
            return raw + distance
        centre, unbounded = self.split(raw)
        axis = raw.ndim - len(self.parameter_shape)
        parts = centre + distance, unbounded
        return torch.cat(parts, dim=axis) if self.modality.shape else torch.stack(parts, dim=axis)

    def log_prob(self, raw: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """log p(value; offset + scale mu, scale s), from standardised numbers. Constants are summed once for all."""
        if mask is not None:
            return super().log_prob(raw, value, mask)
        misfit, constant = self._misfit_and_constant(raw, value)
        return -total(misfit) - constant.expand(self.modality.shape).sum()

    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """The same of each element."""
        misfit, constant = self._misfit_and_constant(raw, value)
        return -(misfit + constant)

    def profile(self, raw: Tensor, value: Tensor, row: Tensor, rows: int, mask: Tensor | None = None) -> Tensor:
        """n log(mean |x - mu|^POWER) / POWER over the row's n numbers: logarithmic in the error, not a power of it."""
        centre, _ = self.centre_and_spread(raw)
        error = total((centre - self.standardise(value)).abs().pow(self.POWER), mask)
        elements = total(torch.ones_like(value) if mask is None else mask.to(error.dtype))
        numbers = raw.new_zeros(rows).index_add(0, row, elements)
        mean = raw.new_zeros(rows).index_add(0, row, error) / numbers.clamp(min=1)
        return numbers * mean.clamp(min=self.FLOOR**self.POWER).log() / self.POWER

    @torch.no_grad()
    def errors(self, raw: Tensor, value: Tensor, present: Tensor, mask: Tensor | None = None) -> Tensor:
        """The number of present values, then the sum of their errors for each of S spreads: (1 + S,).

        With a mask the number of present elements of each spread comes first: (2 S,).
        """
        if self.modality.scale != "learned":
            return super().errors(raw, value, present, mask)
        counted = self.mask(present) if mask is None else self.mask(present) & mask
        error = torch.where(counted, (raw - self.standardise(value)).abs().pow(self.POWER), 0.0)
        count = present.sum().to(error.dtype).reshape(1) if mask is None else self._of_spreads(counted.to(error.dtype))
        return torch.cat([count, self._of_spreads(error)])

    @torch.no_grad()
    def adapt(self, errors: Tensor) -> None:
        """One step of the running average of the mean error."""
        if not len(errors):
            return
        moment = self.moment
        spreads = moment.numel()
        sums = errors[-spreads:].view(moment.shape)
        count = errors[0] if len(errors) == 1 + spreads else errors[:-spreads].view(moment.shape)
        mean = sums / count.clamp(min=torch.finfo(count.dtype).tiny)  # 0 / tiny is 0
        # a batch without this modality changes nothing
        moment.lerp_(mean.clamp_(min=self.FLOOR**self.POWER), (count > 0) * (1 - self.DECAY))

    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """Mean and standard deviation of the mixture of the draws, by the law of total variance."""
        centre, spread = self.centre_and_spread(raw)
        within = (self.deviation(1.0) * spread).square().expand_as(centre).mean(dim=0)
        deviation = (within + centre.var(dim=0, correction=0)).sqrt() * self.scale
        return {"mean": self.offset + self.scale * centre.mean(dim=0), "standard_deviation": deviation}

    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """offset + scale (mu + s F^-1(probability)), F of the standard density."""
        centre, spread = self.centre_and_spread(raw)
        return self.offset + self.scale * (centre + spread * self.standard_quantile(inner(probability)))

    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The mean."""
        return described["mean"]

    def covers(self, described: dict[str, Tensor], value: Tensor) -> Tensor:
        """|x - mean| <= 1.645 standard deviations."""
        return (described["mean"] - value).abs() <= INTERVAL * described["standard_deviation"]

    def deviation_and_error(self, described: dict[str, Tensor], value: Tensor) -> tuple[Tensor, Tensor]:
        """Both standardised."""
        return described["standard_deviation"] / self.scale, (value - described["mean"]).abs() / self.scale

    def calibrate(self, deviation: Tensor, error: Tensor, absence: Tensor, mask: Tensor | None = None) -> None:
        """Fit `Widening`."""
        self.widening.fit(deviation, error, absence, mask)

    def widen(self, described: dict[str, Tensor], absence: Tensor, draws: int) -> dict[str, Tensor]:
        """Standard deviations of missing values as `Widening` gives them."""
        widened: Tensor = self.widening(described["standard_deviation"] / self.scale, absence, draws)
        return {**described, "standard_deviation": widened * self.scale}

    @property
    def is_calibrated(self) -> bool:
        """Whether `Widening` is fitted."""
        return self.widening.is_fitted

    def interval(self, raw: Tensor, described: dict[str, Tensor], level: float) -> tuple[Tensor, Tensor]:
        """mean -+ F^-1((1 + level) / 2) standard deviations, F of the standardised density."""
        mean, deviation = described["mean"], described["standard_deviation"]
        factor = self.standard_quantile(inner(mean.new_tensor((1 + level) / 2))) / self.deviation(1.0)
        return mean - factor * deviation, mean + factor * deviation

    @abstractmethod
    def misfit(self, ratio: Tensor) -> Tensor:
        """-log p of each element as a function of (x - mu) / s, without log s and NORMALISATION."""

    @abstractmethod
    def standard_quantile(self, probability: Tensor) -> Tensor:
        """The inverse distribution function for mu = 0 and s = 1."""

    @abstractmethod
    def deviation(self, spread: float) -> float:
        """The standard deviation that belongs to a spread."""

    def _misfit_and_constant(self, raw: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """-log p = misfit + constant: (N, *shape), and a part that broadcasts to (*shape) and is the same for all N."""
        centre, spread = self.centre_and_spread(raw)
        misfit = self.misfit((self.standardise(value) - centre) / spread)
        constant = self.scale.log() + self.NORMALISATION
        if self.modality.scale == "predicted":
            return misfit + spread.log(), constant
        return misfit, constant + spread.log()

    def _of_spreads(self, values: Tensor) -> Tensor:
        """Sums over N of the mean over the elements that share a spread: (N, *shape) -> (S,)."""
        if len(self.modality.shape) > 1:
            values = values.flatten(1).mean(dim=1)
        return values.sum(dim=0).flatten()

    def _fix(self) -> None:
        if not isinstance(self.modality.scale, str):
            self.moment.copy_((self.modality.scale / self.scale).pow(self.POWER))
