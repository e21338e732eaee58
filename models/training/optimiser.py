"""Adam over all of a model's parameters at once."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

# A parameter begins at a multiple of so many numbers, 64 bytes: products are slower where a matrix begins anywhere.
ALIGNMENT = 16
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Optimiser:
    """Adam (arXiv:1412.6980), or AdamW (arXiv:1711.05101), whose parameters are parts of one vector.

    A small model has dozens of parameters of a few numbers each; to clip and update them one after the other takes
    longer than to compute their gradients. Parameters stay what they are for everybody else, but for their memory and
    that of their gradients, which are always there; the state is that of `torch.optim`, by parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], kind: Literal["adam", "adamw"], weight_decay: float) -> None:
        self._weight_decay = weight_decay
        self._update = torch._fused_adamw_ if kind == "adamw" else torch._fused_adam_
        kinds: dict[tuple[torch.dtype, torch.device], dict[int, nn.Parameter]] = {}
        for number, parameter in enumerate(parameters):
            kinds.setdefault((parameter.dtype, parameter.device), {})[number] = parameter
        self._vectors = [_Vector(numbered) for numbered in kinds.values()]

    @property
    def gradients(self) -> list[Tensor]:
        """All parameters' gradients, for whoever adds up several processes' or scales them."""
        return [vector.gradient for vector in self._vectors]

    def zero_gradients(self) -> None:
        """Begin anew."""
        for vector in self._vectors:
            vector.gradient.zero_()

    @torch.no_grad()
    def clip(self, most: float) -> float:
        """Scale the gradients so that their norm is at most this; returns the norm that they had."""
        gradients = self.gradients
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm: float = (norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))).item()
        if not (factor := most / (norm + 1e-6)) >= 1:  # not a number is not above either, and stays
            for gradient in gradients:
                gradient.mul_(factor)
        return norm

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step down the gradients."""
        for vector in self._vectors:
            vector.steps += 1
            self._update(
                [vector.values],
                [vector.gradient],
                [vector.means],
                [vector.squares],
                [],
                [vector.steps],
                lr=learning_rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=self._weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def tensors(self) -> dict[str, Tensor]:
        """The state by parameter number and name, copied to the CPU; empty before the first step."""
        return {
            f"{number}/{name}": part.cpu().clone()
            for vector in self._vectors
            if vector.steps
            for number, parts in vector.state().items()
            for name, part in parts.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        for vector in self._vectors:
            for number, parts in vector.state().items():
                for name, part in parts.items():
                    if f"{number}/{name}" in tensors:
                        part.copy_(tensors[f"{number}/{name}"])

    def release(self) -> None:
        """Give every parameter memory of its own again, and no gradient; this is over."""
        for vector in self._vectors:
            for parameter in vector.numbered.values():
                parameter.data, parameter.grad = parameter.data.clone(), None


class _Vector:
    """Parameters of one type in one place, their gradients, and Adam's averages of these: (P,) each."""

    def __init__(self, numbered: dict[int, nn.Parameter]) -> None:
        self.numbered = numbered
        first = next(iter(numbered.values()))
        size = sum(one.numel() + -one.numel() % ALIGNMENT for one in numbered.values())
        self.values = torch.zeros(size, dtype=first.dtype, device=first.device)
        self.gradient, self.means, self.squares = (torch.zeros_like(self.values) for _ in range(3))
        self.steps = torch.zeros((), device=first.device)
        values, gradients = self._parts(self.values), self._parts(self.gradient)
        for parameter, value, gradient in zip(numbered.values(), values, gradients, strict=True):
            value.copy_(parameter.detach())
            parameter.data, parameter.grad = value, gradient

    def state(self) -> dict[int, dict[str, Tensor]]:
        """Of every parameter what `torch.optim.Adam` calls its state, as views."""
        means, squares = self._parts(self.means), self._parts(self.squares)
        return {
            number: {"step": self.steps, "exp_avg": mean, "exp_avg_sq": square}
            for number, mean, square in zip(self.numbered, means, squares, strict=True)
        }

    def _parts(self, vector: Tensor) -> list[Tensor]:
        """What of such a vector is each parameter's."""
        parts, start = [], 0
        for parameter in self.numbered.values():
            parts.append(vector[start : start + parameter.numel()].view(parameter.shape))
            start += parameter.numel() + -parameter.numel() % ALIGNMENT
        return parts
