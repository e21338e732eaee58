"""What every likelihood answers."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.config import ModalityConfig


class InputTransform(NamedTuple):
    """How values x enter an encoder: (f(x) - offset) / scale, with f(x) = log(1 + x) if `log1p`, else x.

    offset, scale: they broadcast to (*shape).
    """

    log1p: bool
    offset: Tensor
    scale: Tensor


IDENTITY = InputTransform(log1p=False, offset=torch.zeros(()), scale=torch.ones(()))
"""Values enter as they are, categories as their numbers."""


class Likelihood(nn.Module, ABC):
    """Base class of the densities of one modality. N is any number of values (samples, or samples times steps).

    parameter_shape: shape of what a decoder must give for one value. Two parameters an element stand
    behind one another on its first axis, (2 D,) for a vector of D, (2 C, H, W) for an image, (2,) for a scalar.
    """

    def __init__(self, modality: ModalityConfig, parameters: int = 1) -> None:
        super().__init__()
        self.modality = modality
        self.parameters_per_element = parameters
        self.parameter_shape = modality.shape
        if parameters > 1:
            first, *others = modality.shape or (1,)
            self.parameter_shape = (parameters * first, *others)

    def set_statistics(self, mean: Tensor, standard_deviation: Tensor) -> None:
        """Take over elementwise statistics of the training data, of log(1 + x) for counts: each (*shape)."""

    def input_transform(self) -> InputTransform | None:
        """The transform of the values that enter an encoder; None if it is not of the form of `InputTransform`.

        A likelihood without one overrides `standardise`; fast kernels decline it.
        """
        return IDENTITY

    def standardise(self, value: Tensor) -> Tensor:
        """Values as encoders take them: (N, *shape) -> (N, *shape)."""
        transform = self.input_transform()
        if transform is None:
            raise NotImplementedError(f"{type(self).__name__} has no input transform and does not override standardise")
        if transform is IDENTITY:
            return value
        seen = value.log1p() if transform.log1p else value
        return (seen - transform.offset) / transform.scale

    def log_prob(self, raw: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """log p(value | raw) in nats, summed over the elements of a value.

        raw: (N, *parameter_shape) from the decoder. value: (N, *shape) in the user's units. mask: (N, *shape) bool,
        which elements are present; an absent one adds 0 and gives no gradient, whatever number stands there.
        Returns (N,).
        """
        if mask is None:
            return total(self.log_density(raw, value))
        return total(self.log_density(raw, torch.where(mask, value, 0)), mask)

    @abstractmethod
    def log_density(self, raw: Tensor, value: Tensor) -> Tensor:
        """log p of each element of the values in nats: (N, *parameter_shape) and (N, *shape) -> (N, *shape)."""

    def profile(self, raw: Tensor, value: Tensor, row: Tensor, rows: int, mask: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of each row in nats, with the spread that suits the row best if there is a spread.

        raw: (N, *parameter_shape). value: (N, *shape). row: (N,) int64, to which of the `rows` rows a value belongs.
        mask: as in `log_prob`. Up to a constant that depends on the number of values only. Returns (rows,).
        """
        return raw.new_zeros(rows).index_add(0, row, -self.log_prob(raw, value, mask))

    def errors(self, raw: Tensor, value: Tensor, present: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sums over the present values of a training batch that `adapt` needs: a vector, empty if it needs none.

        present: (N,) bool. mask: as in `log_prob`, in addition to `present`. The sums of several batches or processes
        are added.
        """
        return raw.new_zeros(0)

    def adapt(self, errors: Tensor) -> None:
        """Move parameters that have a closed form towards their optimum, given what `errors` found."""

    @abstractmethod
    def describe(self, raw: Tensor) -> dict[str, Tensor]:
        """The predictive distribution in the user's units, averaged over S equally likely draws of the latent.

        raw: (S, N, *parameter_shape). Returns name -> (N, ...).
        """

    def widen(self, described: dict[str, Tensor], absence: Tensor, draws: int) -> dict[str, Tensor]:
        """The same with the standard deviations of missing values as calibration found them.

        absence: (N,) as `Batch.absence` tells it. draws: how many the description averages.
        """
        return described

    @abstractmethod
    def quantile(self, raw: Tensor, probability: Tensor) -> Tensor:
        """The value that is not exceeded with this probability, elementwise: a draw, where it is uniform on (0, 1).

        raw: (N, *parameter_shape). probability: broadcasts to (N, *shape). Returns (N, *shape), int64 for categories.
        """

    @abstractmethod
    def fill(self, described: dict[str, Tensor]) -> Tensor:
        """The single value to put in a missing one's place: the mean, or what is most likely. (N, *shape)."""

    def split(self, raw: Tensor) -> tuple[Tensor, ...]:
        """The parameters of every element apart: each (..., *shape)."""
        if self.parameters_per_element == 1:
            return (raw,)
        axis = raw.ndim - len(self.parameter_shape)
        parts = raw.chunk(self.parameters_per_element, dim=axis)
        return parts if self.modality.shape else tuple(part.squeeze(axis) for part in parts)

    def mask(self, present: Tensor) -> Tensor:
        """Presence (N,) in a shape that broadcasts over values (N, *shape)."""
        return present.reshape(-1, *[1] * len(self.modality.shape))


def total(density: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sum over all axes but the first, of the elements where `mask` is true: (N, ...) -> (N,), also for N = 0."""
    if mask is not None:
        density = torch.where(mask, density, 0.0)
    return density if density.ndim == 1 else density.flatten(1).sum(dim=1)


def inner(probability: Tensor) -> Tensor:
    """Probabilities away from 0 and 1, where a quantile would be infinite."""
    return probability.clamp(min=1e-6, max=1 - torch.finfo(torch.float32).eps)
