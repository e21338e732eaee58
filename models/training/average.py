"""The running average of a model's weights over the training: steadier than any one step's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """An exponential moving average of the parameters; buffers are the model's own.

    After Polyak and Juditsky (1992, doi:10.1137/0330046), who average all steps alike. Early on it forgets faster, by
    (1 + n) / (10 + n) after n steps, so that it does not remember the first weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = dict(model.named_parameters())
        self._values = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take the weights after `step` steps into account."""
        average = get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))
        average(list(self._values.values()), list(self._parameters.values()), step)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages for its weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def aside(self) -> Mapping[str, Tensor]:
        """By name what is not in the model: the averages, or, while they are in place, the weights under training."""
        return self._values

    @torch.no_grad()
    def begin_with(self, live: Mapping[str, Tensor]) -> None:
        """What the model has are the averages; these are the weights under training, and take their place."""
        for name, parameter in self._parameters.items():
            self._values[name].copy_(parameter)
            parameter.copy_(live[name])

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self._values[name] = self._values[name], parameter.data
