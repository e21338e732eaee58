"""The running average of a model's weights during training, whose error varies less than that of the last weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from models.training.flat import FlatParameters


class WeightAverage:
    """An exponential moving average of the parameters. Buffers are not averaged.

    After Polyak and Juditsky (1992, doi:10.1137/0330046), whose average is uniform over the steps. The decay after n
    steps is min(decay, (1 + n) / (10 + n)): a smaller decay at first forgets the initial weights.
    """

    def __init__(self, parameters: FlatParameters, decay: float) -> None:
        self._decay = decay
        self._parameters = parameters
        self._live = [vector.detach() for vector in parameters.vectors]
        self._averages = [vector.clone() for vector in self._live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after `step` steps."""
        average = get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))
        average(self._averages, self._live, step)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context, the model's weights are the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def swapped_out(self) -> Mapping[str, Tensor]:
        """The numbers that the model does not hold: the averages; within `applied`, the trained weights."""
        return self._parameters.views(self._averages)

    def restore(self, live: Mapping[str, Tensor]) -> None:
        """Continue with the model's weights as the averages, and with `live` as the weights in training."""
        for average, vector in zip(self._averages, self._live, strict=True):
            average.copy_(vector)
        for name, view in self._parameters.views(self._live).items():
            view.copy_(live[name])

    def reset(self) -> None:
        """Restart at the model's weights."""
        for average, vector in zip(self._averages, self._live, strict=True):
            average.copy_(vector)

    def _swap(self) -> None:
        for average, vector in zip(self._averages, self._live, strict=True):
            before = vector.clone()
            vector.copy_(average)
            average.copy_(before)
