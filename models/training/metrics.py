"""Sums of the objective over the batches of an epoch, and their means."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.ops.elbo import Objective
from models.training.distributed import Group


class Totals:
    """Sums over rows, in nats: loss, kl, reconstruction/NAME.

    They stay on the device until the epoch ends: each read waits for the device.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._names: list[str] = []
        self._values: Tensor | None = None

    @property
    def sums(self) -> dict[str, Tensor]:
        """The sums of this process by name."""
        return {} if self._values is None else dict(zip(self._names, self._values.unbind(), strict=True))

    def add(self, objective: Objective, rows: int) -> None:
        """Count a batch. rows: number of rows in all processes together."""
        names = ["loss", "kl", *(f"reconstruction/{name}" for name in objective.log_likelihood)]
        with torch.no_grad():
            parts = torch.stack([objective.loss, objective.kl, *objective.log_likelihood.values()])
            totals = parts.sum(dim=1, dtype=torch.float64)
            totals[2:].neg_()
            if self._values is not None:
                if names != self._names:  # restored from a state that has another order
                    sums = self.sums
                    self._values = torch.stack([sums[name] for name in names])
                totals += self._values
        self.rows += rows
        self._names, self._values = names, totals

    def restore(self, sums: Mapping[str, Tensor], rows: int) -> None:
        """Continue with these sums over these many rows."""
        self.rows, self._names = rows, list(sums)
        self._values = torch.stack(list(sums.values())) if sums else None

    def means(self, group: Group, prefix: str = "", **others: Tensor) -> dict[str, float]:
        """Means over all rows counted so far, in all processes. others: further sums over the same rows."""
        sums = {name: total.clone() for name, total in {**self.sums, **others}.items()}
        group.all_reduce(list(sums.values()))
        return {f"{prefix}{name}": total.item() / self.rows for name, total in sums.items()}
