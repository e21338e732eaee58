"""Adam and AdamW of `torch.optim`, fused, on all parameters of a model as one vector."""

from typing import Literal

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from models.training.flat import FlatParameters

KINDS = {"adam": adam, "adamw": adamw}
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Optimiser:
    """Adam (arXiv:1412.6980) or AdamW (arXiv:1711.05101).

    Calls the functional form of `torch.optim`: the bookkeeping of `torch.optim.AdamW` takes an eighth of a small step.
    The stored state is that of `torch.optim` per parameter, so that it does not depend on the vector's layout.
    """

    def __init__(self, parameters: FlatParameters, kind: Literal["adam", "adamw"], weight_decay: float) -> None:
        self._parameters = parameters
        self._update = KINDS[kind]
        self._weight_decay = weight_decay
        self._means = [torch.zeros_like(vector) for vector in parameters.gradients]
        self._squares = [torch.zeros_like(vector) for vector in parameters.gradients]
        self._steps = [torch.zeros((), device=vector.device) for vector in parameters.vectors]

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for gradient in self._parameters.gradients:
            gradient.zero_()

    @torch.no_grad()
    def clip(self, max_norm: float) -> float:
        """Scale the gradients to a norm of at most `max_norm`; returns their norm before, NaN where one is NaN.

        As `torch.nn.utils.clip_grad_norm_`, which takes ten times as long for one vector.
        """
        gradients = self._parameters.gradients
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm: float = (norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))).item()
        if not (factor := max_norm / (norm + 1e-6)) >= 1:  # also for NaN
            for gradient in gradients:
                gradient.mul_(factor)
        return norm

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step along the negative gradients."""
        self._update(
            self._parameters.vectors,
            self._parameters.gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=learning_rate,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """'NUMBER/NAME' -> a copy on the CPU, for each parameter by its number; empty before the first step."""
        if not any(self._steps):
            return {}
        return {name: part.cpu().clone() for name, part in self._parts().items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        if state:
            for name, part in self._parts().items():
                part.copy_(state[name])

    def _parts(self) -> dict[str, Tensor]:
        """The state as `torch.optim` names it: views; parameters of one vector share their step."""
        flat = self._parameters
        steps = {name: step for names, step in zip(flat.names, self._steps, strict=True) for name in names}
        parts = {"step": steps, "exp_avg": flat.views(self._means), "exp_avg_sq": flat.views(self._squares)}
        return {
            f"{number}/{key}": values[name]
            for number, name in enumerate(parts["exp_avg"])
            for key, values in parts.items()
        }
