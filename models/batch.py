"""A batch of samples with presence, and the one place that checks shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import Kind, ModalityConfig


class BatchError(ValueError):
    """Values, presence or lengths that do not fit the modalities, or each other."""


@dataclass(frozen=True)
class Batch:
    """Values of B samples, or of B sequences padded to T steps, and which of them there are.

    values: name -> (B, *shape) or (B, T, *shape), zeros where absent: float32, or int64 for categories.
    present: name -> (B,) or (B, T) bool; a step at or after the sequence's length is absent.
    lengths: (B,) int64 for sequences, None for samples.
    A modality without an entry is absent everywhere; `present` has the keys of `values`.
    """

    values: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    lengths: Tensor | None = None

    @property
    def rows(self) -> int:
        """B, the number of samples or sequences."""
        return len(next(iter(self.present.values())))

    @property
    def valid(self) -> Tensor:
        """(B, T) bool: the steps that belong to their sequence; only for sequences."""
        if self.lengths is None:
            raise BatchError("a batch of samples has no time steps, expected one with lengths")
        steps = next(iter(self.present.values())).shape[1]
        return torch.arange(steps, device=self.lengths.device) < self.lengths[:, None]

    def absence(self, name: str) -> Tensor:
        """0 where a modality is given, 1 where only others are, 2 where nothing is: (B,) or (B, T) int64."""
        anything = torch.stack(list(self.present.values())).any(dim=0)
        alone = torch.where(anything, 1, 2)
        return torch.where(self.present[name], 0, alone) if name in self.present else alone

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(
            values={name: value.to(device) for name, value in self.values.items()},
            present={name: mask.to(device) for name, mask in self.present.items()},
            lengths=None if self.lengths is None else self.lengths.to(device),
        )

    def split(self, rows: Sequence[int]) -> "list[Batch]":
        """Batches of samples of so many rows each, one after the other: views."""
        values = {name: value.split(list(rows)) for name, value in self.values.items()}
        present = {name: mask.split(list(rows)) for name, mask in self.present.items()}
        return [
            Batch({name: parts[index] for name, parts in values.items()}, {n: p[index] for n, p in present.items()})
            for index in range(len(rows))
        ]


def check(batch: Batch, modalities: Sequence[ModalityConfig], kind: Kind) -> None:
    """Raise BatchError, naming every fault, unless the batch fits a model of these modalities."""
    known = {modality.name: modality for modality in modalities}
    if not batch.values:
        raise BatchError(f"values is empty, expected at least one of {', '.join(sorted(known))}")
    faults = [
        f"values[{name!r}] is no modality of this model, expected one of {', '.join(sorted(known))}"
        for name in batch.values
        if name not in known
    ]
    if batch.present.keys() != batch.values.keys():
        faults.append(f"present has {sorted(batch.present)}, expected the modalities of values: {sorted(batch.values)}")
    if (batch.lengths is not None) != (kind == "sequence"):
        faults.append(f"lengths is {'given' if kind == 'static' else 'missing'} for a model of {kind} data")
    if faults:
        raise BatchError("; ".join(faults))

    leading = next(iter(batch.present.values())).shape
    if len(leading) != (1 if kind == "static" else 2):
        raise BatchError(f"present has shape {tuple(leading)}, expected {'(B,)' if kind == 'static' else '(B, T)'}")
    for name, value in batch.values.items():
        faults += _value_faults(known[name], value, batch.present[name], leading)
    if batch.lengths is not None:
        faults += _length_faults(batch.lengths, leading)
    if faults:
        raise BatchError("; ".join(faults))
    if batch.lengths is not None:
        outside = [name for name, mask in batch.present.items() if bool((mask & ~batch.valid).any())]
        if outside:
            raise BatchError(f"present of {', '.join(outside)} is true after the end of a sequence, expected false")


def _value_faults(modality: ModalityConfig, value: Tensor, present: Tensor, leading: torch.Size) -> list[str]:
    place = f"values[{modality.name!r}]"
    faults = []
    if value.shape != (*leading, *modality.shape):
        faults.append(f"{place} has shape {tuple(value.shape)}, expected {(*leading, *modality.shape)}")
    dtype = torch.float32 if modality.categories is None else torch.int64
    if value.dtype != dtype:
        faults.append(f"{place} is {value.dtype}, expected {dtype}")
    if present.shape != leading or present.dtype != torch.bool:
        faults.append(
            f"present[{modality.name!r}] is {present.dtype} of shape {tuple(present.shape)}, "
            f"expected torch.bool of shape {tuple(leading)}"
        )
    if not faults and modality.categories is not None and value.numel():
        low, high = int(value.min()), int(value.max())
        if low < 0 or high >= modality.categories:
            faults.append(f"{place} has values {low} to {high}, expected 0 to {modality.categories - 1}")
    return faults


def _length_faults(lengths: Tensor, leading: torch.Size) -> list[str]:
    rows, steps = leading
    if lengths.shape != (rows,) or lengths.dtype != torch.int64:
        return [f"lengths is {lengths.dtype} of shape {tuple(lengths.shape)}, expected torch.int64 of shape ({rows},)"]
    if rows and (int(lengths.min()) < 1 or int(lengths.max()) > steps):
        return [f"lengths has {int(lengths.min())} to {int(lengths.max())}, expected 1 to {steps}"]
    return []
