"""Flattened nested lists: the columns of Parquet and JSON Lines before they become modalities."""

import math
from dataclasses import dataclass

import numpy as np

from service.shared.errors import Fault, pointer
from worker.ingest.block import Array
from worker.ingest.faults import Faults

MAX_AXES = 8  # as in .npz files
TRIES = 16


@dataclass(frozen=True)
class Level:
    """All lists of one depth. lengths: (N,) int64, 0 for null. given: (N,) bool, false for null."""

    lengths: Array
    given: Array


@dataclass(frozen=True)
class Nested:
    """Some rows of a column. `levels` are ordered from the outermost lists to the innermost.

    values: (V,), the items of the innermost lists, or of the rows if there are no lists; zero for null.
    given: (V,) bool, false for null; None if there is no null. With `words`, values are indices into these texts.
    In the methods, axis i means the lists of levels[i], and axis len(levels) the values.
    """

    levels: tuple[Level, ...]
    values: Array
    given: Array | None = None
    words: tuple[str, ...] = ()

    def present(self, axis: int) -> Array:
        """Which items of an axis are not null: (N,) bool."""
        if axis < len(self.levels):
            return self.levels[axis].given
        return np.ones(len(self.values), bool) if self.given is None else self.given

    def place(self, axis: int, index: int) -> tuple[int, ...]:
        """The position of an item of an axis: its row, then its index in each list around it."""
        inside: list[int] = []
        for level in reversed(self.levels[:axis]):
            ends = np.cumsum(level.lengths)
            owner = int(np.searchsorted(ends, index, "right"))
            inside.insert(0, index - int(ends[owner] - level.lengths[owner]))
            index = owner
        return (index, *inside)

    def extents(self, axis: int) -> tuple[int, ...] | None:
        """The shape of the first item of an axis that has one; None if none of the first TRIES items has."""
        if axis >= len(self.levels):
            return None
        for first in np.flatnonzero(self.levels[axis].lengths)[:TRIES]:
            found, place = [], int(first)
            for level in self.levels[axis:]:
                found.append(int(level.lengths[place]) if place < len(level.lengths) else 0)
                place = int(level.lengths[:place].sum())
            if all(found):
                return tuple(found)
        return None

    def filled(
        self, name: str, axis: int, shape: tuple[int, ...], first_row: int, null_is_nan: bool, faults: Faults
    ) -> tuple[Array, Array]:
        """The items of an axis as arrays: values (N, *shape), zero where absent, and present (N,).

        Adds a fault for every item of another shape, and for every null inside one; with null_is_nan such a null
        becomes NaN.
        """
        present = self.present(axis)
        odd = self._odd_lists(name, axis, shape, first_row, faults)
        if not odd and null_is_nan and self._has_nulls_inside(axis, shape):
            return self._with_nan(axis, shape), present
        if odd or self._nulls_inside(name, axis, shape, first_row, faults):
            return np.zeros((len(present), *[0] * len(shape)), self.values.dtype), present
        if not shape or present.all():
            return self.values.reshape(-1, *shape), present
        values = np.zeros((len(present), *shape), self.values.dtype)
        values[present] = self.values.reshape(-1, *shape)
        return values, present

    def _odd_lists(self, name: str, axis: int, shape: tuple[int, ...], first_row: int, faults: Faults) -> bool:
        found = False
        for inner, extent in enumerate(shape, axis):
            level = self.levels[inner]
            for index in np.flatnonzero((level.lengths != extent) & level.given)[: faults.room()]:
                row, *inside = self.place(inner, int(index))
                detail = (
                    f"{name!r} has a list of {level.lengths[index]} at {_where(first_row + row, inside, axis)}, "
                    f"expected {extent} in values of shape {shape}"
                )
                faults.add(Fault(pointer(name, first_row + row, *inside), "wrong_shape", detail))
                found = True
        return found

    def _has_nulls_inside(self, axis: int, shape: tuple[int, ...]) -> bool:
        return any(not self.present(inner).all() for inner in range(axis + 1, axis + len(shape) + 1))

    def _with_nan(self, axis: int, shape: tuple[int, ...]) -> Array:
        """The items of an axis, (N, *shape), with NaN for every null inside one. Works from the innermost lists out."""
        found = np.where(self.present(axis + len(shape)), self.values.astype(np.float64), np.nan)
        for inner in reversed(range(len(shape))):
            given = self.levels[axis + inner].given
            lists = np.full((len(given), *shape[inner:]), np.nan if inner else 0.0)
            lists[given] = found.reshape(-1, *shape[inner:])
            found = lists
        return found

    def _nulls_inside(self, name: str, axis: int, shape: tuple[int, ...], first_row: int, faults: Faults) -> bool:
        found = False
        for inner in range(axis + 1, axis + len(shape) + 1):
            if inner == len(self.levels) and self.given is None:
                continue
            for index in np.flatnonzero(~self.present(inner))[: faults.room()]:
                row, *inside = self.place(inner, int(index))
                detail = (
                    f"{name!r} is null at {_where(first_row + row, inside, axis)}, expected a number; only a whole "
                )
                detail += f"{'time step or row' if axis else 'row'} may be null, unless nan is declared missing"
                faults.add(Fault(pointer(name, first_row + row, *inside), "null_inside", detail))
                found = True
        return found


def bytes_of(shape: tuple[int, ...], dtype: str) -> int:
    """The size of one value in stored form."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def _where(row: int, inside: list[int], axis: int) -> str:
    words = [f"row {row}", *(f"step {step}" for step in inside[:axis])]
    return ", ".join([*words, f"element {inside[axis:]}"] if inside[axis:] else words)
