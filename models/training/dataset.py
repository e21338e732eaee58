"""A dataset as training reads it: one array per modality, in memory or mapped from a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from models.config import Kind

Array = np.ndarray[Any, np.dtype[Any]]
SPLITS = ("training", "validation", "test")


class Modality(NamedTuple):
    """Shape of one value, () for a scalar; and the number of categories, None for numbers."""

    name: str
    shape: tuple[int, ...]
    categories: int | None = None


@dataclass(frozen=True)
class Dataset:
    """N samples, or N sequences whose time steps are packed one behind the other: S steps in all.

    values: name -> (N, *shape) or (S, *shape), zeros where absent: floats, or integers for categories.
    present: name -> (N,) or (S,) bool, or one bool per element in the shape of the values. A modality is present where
    any of its elements is; the numbers of its absent elements never matter. offsets: (N + 1,) int64, sequence i owns
    steps offsets[i] to offsets[i + 1]; None for samples. splits: (N,) uint8, an index of SPLITS; None where all rows
    are for training.
    """

    kind: Kind
    modalities: tuple[Modality, ...]
    rows: int
    values: Mapping[str, Array]
    present: Mapping[str, Array]
    offsets: Array | None = None
    splits: Array | None = None

    @classmethod
    def from_arrays(
        cls,
        values: Mapping[str, Array],
        kind: Kind = "static",
        present: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
    ) -> Self:
        """Arrays in memory: (N, *shape), or padded sequences (N, T, *shape) of `lengths` (N,) steps, T by default.

        Integers of shape () are categories, 0 to the largest value; everything else is numbers. Pass years, counts or
        ids as floats, or as indices of their distinct values (`np.unique(values, return_inverse=True)`).
        present: name -> (N,) or (N, T) bool, or one bool per element; all true for modalities that are not named. The
        numbers in absent places never matter.
        """
        axes = 2 if kind == "sequence" else 1
        first = next(iter(values.values()))
        rows = len(first)
        steps = np.arange(first.shape[1]) if kind == "sequence" else np.arange(0)
        inside = steps < (np.full(rows, len(steps)) if lengths is None else lengths)[:, None]

        def packed(array: Array) -> Array:
            return array if kind == "static" else array[inside]

        modalities = []
        for name in sorted(values):
            array = values[name]
            category = array.dtype.kind in "iu" and array.ndim == axes
            modalities.append(Modality(name, array.shape[axes:], max(2, int(array.max()) + 1) if category else None))
        stored, masks = {}, {name: packed(mask) for name, mask in (present or {}).items()}
        for modality in modalities:
            numbers = packed(values[modality.name]).astype(np.float32 if modality.categories is None else np.int64)
            mask = masks.setdefault(modality.name, np.ones(len(numbers), bool))
            numbers[~mask] = 0
            stored[modality.name] = numbers
        return cls(
            kind=kind,
            modalities=tuple(modalities),
            rows=rows,
            values=stored,
            present=masks,
            offsets=None if kind == "static" else np.concatenate([[0], np.cumsum(inside.sum(axis=1))]),
        )
