"""A batch of samples or sequences with presence, and the check of its shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import Kind, ModalityConfig


class BatchError(ValueError):
    """Values, presence or lengths that do not fit the modalities, or each other."""


@dataclass(frozen=True)
class Batch:
    """Values of B samples, or of B sequences padded to T steps, and which of them are present.

    values: name -> (B, *shape) or (B, T, *shape): float32, or int64 for categories; zeros where a modality is absent.
    present: name -> (B,) or (B, T) bool, or with one bool per element, (B, *shape) or (B, T, *shape). A modality is
    present where any of its elements is, and the numbers of its absent elements never matter. A step at or after the
    sequence's length is absent.
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
        """(B, T) bool, the steps before the end of their sequence. Raises BatchError for samples."""
        if self.lengths is None:
            raise BatchError("a batch of samples has no time steps, expected one with lengths")
        steps = next(iter(self.present.values())).shape[1]
        return torch.arange(steps, device=self.lengths.device) < self.lengths[:, None]

    def observed(self, name: str) -> Tensor:
        """Where a modality is present, in whole or in part: (B,) or (B, T) bool."""
        mask = self.present[name]
        leading = 1 if self.lengths is None else 2
        return mask if mask.ndim == leading else mask.flatten(leading).any(dim=-1)

    def elements(self, name: str) -> Tensor | None:
        """Which elements of a modality are present, (B, *shape) or (B, T, *shape) bool; None without such a mask."""
        mask = self.present[name]
        return None if mask.ndim == (1 if self.lengths is None else 2) else mask

    def known(self, name: str) -> Tensor:
        """Which elements of a modality are present, in the shape of its values: (B, *shape) or (B, T, *shape) bool."""
        mask, value = self.present[name], self.values[name]
        return mask.reshape(mask.shape + (1,) * (value.ndim - mask.ndim)).expand_as(value)

    def part(self, name: str) -> Tensor:
        """The part of a modality's elements that are present, from 0 to 1: (B,) or (B, T) float32."""
        mask = self.present[name].float()
        leading = 1 if self.lengths is None else 2
        return mask if mask.ndim == leading else mask.flatten(leading).mean(dim=-1)

    def kept(self, keep: Mapping[str, Tensor]) -> "Batch":
        """The batch with modalities hidden where `keep`, name -> (B,) or (B, T) bool, is false. Values are shared."""
        present = {
            name: mask & keep[name].reshape(keep[name].shape + (1,) * (mask.ndim - keep[name].ndim))
            for name, mask in self.present.items()
        }
        return Batch(self.values, present, self.lengths)

    def absence(self, name: str) -> Tensor:
        """0 where a modality is observed, 1 where only others are, 2 where none is: (B,) or (B, T) int64."""
        anything = torch.stack([self.observed(other) for other in self.present]).any(dim=0)
        alone = torch.where(anything, 1, 2)
        return torch.where(self.observed(name), 0, alone) if name in self.present else alone

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(
            values={name: value.to(device) for name, value in self.values.items()},
            present={name: mask.to(device) for name, mask in self.present.items()},
            lengths=None if self.lengths is None else self.lengths.to(device),
        )

    def split(self, rows: Sequence[int]) -> "list[Batch]":
        """Consecutive batches with these numbers of rows, as views. Only for samples."""
        values = {name: value.split(list(rows)) for name, value in self.values.items()}
        present = {name: mask.split(list(rows)) for name, mask in self.present.items()}
        return [
            Batch({name: parts[index] for name, parts in values.items()}, {n: p[index] for n, p in present.items()})
            for index in range(len(rows))
        ]


def check(batch: Batch, modalities: Sequence[ModalityConfig], kind: Kind) -> None:
    """Raise BatchError with all faults unless the batch fits a model of these modalities."""
    known = {modality.name: modality for modality in modalities}
    if not batch.values:
        raise BatchError(f"values is empty, expected at least one of {', '.join(sorted(known))}")
    faults = [
        f"values[{name!r}] is not a modality of this model, expected one of {', '.join(sorted(known))}"
        for name in batch.values
        if name not in known
    ]
    if batch.present.keys() != batch.values.keys():
        faults.append(f"present has {sorted(batch.present)}, expected the modalities of values: {sorted(batch.values)}")
    if (batch.lengths is not None) != (kind == "sequence"):
        faults.append(f"lengths is {'given' if kind == 'static' else 'missing'} for a model of {kind} data")
    if faults:
        raise BatchError("; ".join(faults))

    axes = 1 if kind == "static" else 2
    first = next(iter(batch.present.values())).shape
    leading = first[:axes]
    if len(leading) != axes:
        raise BatchError(f"present has shape {tuple(first)}, expected {'(B,)' if kind == 'static' else '(B, T)'}")
    for name, value in batch.values.items():
        faults += _value_faults(known[name], value, batch.present[name], leading)
    if batch.lengths is not None:
        faults += _length_faults(batch.lengths, leading)
    if faults:
        raise BatchError("; ".join(faults))
    if batch.lengths is not None:
        outside = [name for name in batch.present if bool((batch.observed(name) & ~batch.valid).any())]
        if outside:
            raise BatchError(f"present of {', '.join(outside)} is true after the end of a sequence, expected false")


def _value_faults(modality: ModalityConfig, value: Tensor, present: Tensor, leading: torch.Size) -> list[str]:
    place = f"values[{modality.name!r}]"
    faults = []
    if value.shape != (*leading, *modality.shape):
        faults.append(f"{place} has shape {tuple(value.shape)}, expected {(*leading, *modality.shape)}")
    dtype: torch.dtype = getattr(torch, modality.dtype)
    if value.dtype != dtype:
        faults.append(f"{place} is {value.dtype}, expected {dtype}")
    if present.shape not in (leading, (*leading, *modality.shape)) or present.dtype != torch.bool:
        per_element = f" or {(*leading, *modality.shape)}" if modality.shape else ""
        faults.append(
            f"present[{modality.name!r}] is {present.dtype} of shape {tuple(present.shape)}, "
            f"expected torch.bool of shape {tuple(leading)}{per_element}"
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
