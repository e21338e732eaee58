"""All parameters of a module as views of one vector, and their gradients as views of its gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Parameters begin at multiples of 16 numbers, 64 bytes: matrix products are slower on matrices that begin elsewhere.
ALIGNMENT = 16


class FlatParameters:
    """One vector (P,) per type and device of parameter; for almost every module one in all.

    A small model has dozens of parameters of a few numbers each. Zeroing, clipping, updating and averaging them one by
    one takes longer than computing their gradients. vectors: leaf tensors that always have a `grad`; automatic
    differentiation may write to it or to the parameters' own `grad`. names: those of the parameters in each vector.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = dict(module.named_parameters())
        kinds: dict[tuple[torch.dtype, torch.device], list[str]] = {}
        for name, parameter in self._parameters.items():
            kinds.setdefault((parameter.dtype, parameter.device), []).append(name)
        self.names = list(kinds.values())
        self.vectors: list[Tensor] = []
        for (dtype, device), names in kinds.items():
            size = sum(_aligned(self._parameters[name].numel()) for name in names)
            vector = torch.zeros(size, dtype=dtype, device=device, requires_grad=True)
            vector.grad = torch.zeros_like(vector)
            self.vectors.append(vector)
        values = self.views([vector.detach() for vector in self.vectors])
        gradients = self.views(self.gradients)
        for name, parameter in self._parameters.items():
            values[name].copy_(parameter.detach())
            parameter.data, parameter.grad = values[name], gradients[name]

    @property
    def vector(self) -> Tensor | None:
        """The vector of all parameters, if there is one."""
        return self.vectors[0] if len(self.vectors) == 1 else None

    @property
    def gradients(self) -> list[Tensor]:
        """The gradient of each vector."""
        return [vector.grad for vector in self.vectors if vector.grad is not None]

    def views(self, vectors: Sequence[Tensor]) -> dict[str, Tensor]:
        """The part of each parameter, by its name and in the module's order, of tensors shaped like `vectors`."""
        found = {}
        for names, vector in zip(self.names, vectors, strict=True):
            start = 0
            for name in names:
                parameter = self._parameters[name]
                found[name] = vector[start : start + parameter.numel()].view(parameter.shape)
                start += _aligned(parameter.numel())
        return {name: found[name] for name in self._parameters}

    def release(self) -> None:
        """Give each parameter its own memory again, and no gradient. Afterwards the vectors are unused."""
        for parameter in self._parameters.values():
            parameter.data, parameter.grad = parameter.data.clone(), None


def _aligned(size: int) -> int:
    return size + -size % ALIGNMENT
