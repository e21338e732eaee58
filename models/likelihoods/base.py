"""Base class of the likelihoods."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from models.config import ModalityConfig
from models.likelihoods.metric import Metric, RootMeanSquaredError


class InputTransform(NamedTuple):
    """The transform of an encoder's input: (f(x) - offset) / scale, with f(x) = log(1 + x) if `log1p`, else x.

    offset, scale: broadcast to (*shape).
    """

    log1p: bool
    offset: Tensor
    scale: Tensor


IDENTITY = InputTransform(log1p=False, offset=torch.zeros(()), scale=torch.ones(()))
"""Unchanged values; categories as their numbers."""


class Likelihood(nn.Module, ABC):
    """Base class of the densities of one modality. N values: samples, or samples times steps.

    parameter_shape: shape of a decoder's output for one value. With P parameters per element they are stacked along
    the first axis: (P D,) for a vector of D, (P C, H, W) for an image, (P,) for a scalar.
    """

    metric: ClassVar[Metric] = RootMeanSquaredError()
    """Of `point` in an evaluation."""
    needs_statistics: ClassVar[bool] = False
    """Whether training calls `set_statistics`."""
    has_intervals: ClassVar[bool] = False
    """Whether predictions have 90 % intervals (`covers`) that `calibrate` fits to held-out values."""

    def __init__(self, modality: ModalityConfig) -> None:
        super().__init__()
        self.modality = modality
        self.parameters_per_element = modality.parameters_per_element
        self.parameter_shape = modality.shape
        # absent values are 0
        self._takes_zeros = modality.support.inside == 0
        if self.parameters_per_element > 1:
            first, *others = modality.shape or (1,)
            self.parameter_shape = (self.parameters_per_element * first, *others)

    def transformed(self, value: Tensor) -> Tensor:
        """f(x), whose statistics `set_statistics` takes. A likelihood without an `input_transform` overrides it."""
        transform = self.input_transform()
        return value.log1p() if transform is not None and transform.log1p else value

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Set the elementwise statistics of `transformed` training values: (*shape) each."""

    def input_transform(self) -> InputTransform | None:
        """The transform of values that enter an encoder; None if it is not of the form of `InputTransform`.

        Fast kernels decline a likelihood without one.
        """
        return IDENTITY

    def standardise(self, value: Tensor) -> Tensor:
        """An encoder's input: (N, *shape) -> (N, *shape). Finite also for values outside the support."""
        transform = self.input_transform()
        if transform is IDENTITY:
            return value
        if transform is None:
            return self.standardise_inside(self._moved_inside(value))
        seen = value.log1p() if transform.log1p else value
        return (seen - transform.offset) / transform.scale

    def standardise_inside(self, value: Tensor) -> Tensor:
        """`standardise` of a likelihood without an `input_transform`: values inside the support only."""
        raise NotImplementedError(f"{type(self).__name__} has no input transform, expected it to standardise values")

    def log_prob(self, raw: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """log p(value | raw) in nats, summed over the elements of a value.

        raw: (N, *parameter_shape) from the decoder. value: (N, *shape) in the user's units. mask: (N, *shape) bool,
        which elements are present; an absent one adds 0 and gives no gradient, whatever its number.
        Returns (N,).
        """
        if mask is not None:
            value = torch.where(mask, value, value.new_tensor(self.modality.support.inside))
        density = self.log_density(raw, self._moved_inside(value))
        if not self._takes_zeros:
            density = torch.where(self.modality.support.contains(value), density, -torch.inf)
        return total(density, mask)

    @abstractmethod
    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """log p of each element in nats, of values inside the support.

        raw: (N, *parameter_shape). value: (N, *shape). Returns (N, *shape).
        """

    def profile(self, raw: Tensor, value: Tensor, row: Tensor, rows: int, mask: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of each row in nats, with the spread, if any, that maximises the row's likelihood.

        raw: (N, *parameter_shape). value: (N, *shape). row: (N,) int64, to which of the `rows` rows a value belongs.
        mask: as in `log_prob`. Up to a constant that depends on the number of values only. Returns (rows,).
        """
        return raw.new_zeros(rows).index_add(0, row, -self.log_prob(raw, value, mask))

    def errors(self, raw: Tensor, value: Tensor, present: Tensor, mask: Tensor | None = None) -> Tensor:
        """The input of `adapt`: sums over the present values of a training batch, as a vector; empty if not needed.

        present: (N,) bool. mask: as in `log_prob`, in addition to `present`. The sums of several batches or processes
        are added.
        """
        return raw.new_zeros(0)

    def adapt(self, errors: Tensor) -> None:
        """Move parameters that have a closed form towards their optimum. errors: what `errors` returned."""

    @abstractmethod
    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """The predictive distribution in the user's units, averaged over S equally likely draws of the latent.

        raw: (S, N, *parameter_shape). Returns the `outputs` of its `Facts`: name -> (N, *shape), int64 for a category,
        (N, K) for numbers of K categories.
        """

    @abstractmethod
    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """The smallest value with at least this probability below or at it, elementwise: a draw if it is uniform.

        raw: (N, *parameter_shape). probability: in (0, 1), broadcasts to (N, *shape). Returns (N, *shape), int64 for
        categories.
        """

    @abstractmethod
    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The value that replaces a missing one, inside the support: (N, *shape)."""

    def point(self, described: dict[str, Tensor]) -> Tensor:
        """The prediction whose error `metric` measures: (N, *shape)."""
        return self.fill(described)

    def covers(self, described: dict[str, Tensor], value: Tensor) -> Tensor:
        """Whether each element lies in the predicted 90 % interval: (N, *shape) bool. Only if it `has_intervals`."""
        raise NotImplementedError

    def deviation_and_error(self, described: dict[str, Tensor], value: Tensor) -> tuple[Tensor, Tensor]:
        """What `calibrate` compares: predicted standard deviations and absolute errors, (N, *shape) each."""
        raise NotImplementedError

    def calibrate(self, deviation: Tensor, error: Tensor, absence: Tensor, mask: Tensor | None = None) -> None:
        """Fit the intervals to held-out missing values: nine of ten errors lie inside.

        deviation, error: (2, N, *shape), of predictions without draws and with draws. absence: (N,), 1 or 2 as
        `Batch.absence` has it. mask: (N, *shape) bool, the elements whose errors are known; None for all.
        """
        raise NotImplementedError

    def widen(self, described: dict[str, Tensor], absence: Tensor, draws: int) -> dict[str, Tensor]:
        """The same with the calibrated standard deviations of missing values.

        absence: (N,) as `Batch.absence` has it. draws: the number that the description averages.
        """
        return described

    @property
    def is_calibrated(self) -> bool:
        """Whether `calibrate` has fitted the intervals."""
        return False

    def interval(self, raw: Tensor, described: dict[str, Tensor], level: float) -> tuple[Tensor, Tensor]:
        """The central interval in which each element lies with probability `level`: its bounds, (N, *shape) twice.

        Only if its facts have `quantiles`. raw: (N, *parameter_shape). described: the same, as `widen` returned it.
        """
        below, above = inner(raw.new_tensor([(1 - level) / 2, (1 + level) / 2]))
        return self.quantile(raw, below), self.quantile(raw, above)

    def split(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Each of the P parameters of every element: P tensors (..., *shape)."""
        if self.parameters_per_element == 1:
            return (raw,)
        axis = raw.ndim - len(self.parameter_shape)
        parts = raw.chunk(self.parameters_per_element, dim=axis)
        return parts if self.modality.shape else tuple(part.squeeze(axis) for part in parts)

    def mask(self, present: Tensor) -> Tensor:
        """Presence (N,) in a shape that broadcasts over values (N, *shape)."""
        return present.reshape(-1, *[1] * len(self.modality.shape))

    def _moved_inside(self, value: Tensor) -> Tensor:
        """The values, with a number inside the support for those outside if 0 is outside.

        Absent values are 0: an infinite logarithm would make the gradients of a batch NaN.
        """
        if self._takes_zeros:
            return value
        support = self.modality.support
        return torch.where(support.contains(value), value, support.inside)


def total(density: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sum over all axes but the first, of the elements where `mask` is true: (N, ...) -> (N,), also for N = 0."""
    if mask is not None:
        density = torch.where(mask, density, 0.0)
    return density if density.ndim == 1 else density.flatten(1).sum(dim=1)


def inner(probability: Tensor) -> Tensor:
    """Probabilities away from 0 and 1, where a quantile would be infinite."""
    return probability.clamp(min=1e-6, max=1 - torch.finfo(torch.float32).eps)
