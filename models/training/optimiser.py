"""Adam and AdamW of `torch.optim`, fused, on all parameters of a model as one vector."""

from typing import Literal

import torch
from torch import Tensor

from models.training.flat import FlatParameters

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Optimiser:
    """Adam (arXiv:1412.6980) or AdamW (arXiv:1711.05101).

    Its stored state is that of `torch.optim` per parameter, so that it does not depend on how the vector is laid out.
    """

    def __init__(self, parameters: FlatParameters, kind: Literal["adam", "adamw"], weight_decay: float) -> None:
        self._parameters = parameters
        self._adam = KINDS[kind](parameters.vectors, weight_decay=weight_decay, fused=True)

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

    def step(self, learning_rate: float) -> None:
        """One step along the negative gradients."""
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()

    def state(self) -> dict[str, Tensor]:
        """'NUMBER/NAME' -> a copy on the CPU, for each parameter by its number; empty before the first step."""
        if not self._adam.state:
            return {}
        flat = self._parameters
        states = [self._adam.state[vector] for vector in flat.vectors]
        parts = {key: flat.views([state[key] for state in states]) for key in ("exp_avg", "exp_avg_sq")}
        parts["step"] = {name: state["step"] for names, state in zip(flat.names, states, strict=True) for name in names}
        numbers = enumerate(parts["exp_avg"])
        return {f"{number}/{key}": parts[key][name].cpu().clone() for number, name in numbers for key in parts}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        if not state:
            return
        flat = self._parameters
        whole = {key: [torch.zeros_like(vector) for vector in flat.vectors] for key in ("exp_avg", "exp_avg_sq")}
        for key, vectors in whole.items():
            for number, view in enumerate(flat.views(vectors).values()):
                view.copy_(state[f"{number}/{key}"])
        numbers = {name: number for number, name in enumerate(flat.views(flat.vectors))}
        whole["step"] = [state[f"{numbers[names[0]]}/step"] for names in flat.names]
        by_vector = {index: {key: parts[index] for key, parts in whole.items()} for index in range(len(flat.vectors))}
        self._adam.load_state_dict({"state": by_vector, "param_groups": self._adam.state_dict()["param_groups"]})
