"""Checks values: numbers are finite and in the support of their likelihood, categories are in their range."""

from collections.abc import Sequence

import numpy as np

from models.config.likelihood import find
from service.datasets.declaration import MAX_CATEGORIES
from service.datasets.layout import PlannedModality
from service.shared.errors import Fault, pointer
from worker.ingest.block import Array, Column
from worker.ingest.faults import Faults

NUMBER = "a finite number"
MAX_FLOAT32 = float(np.finfo(np.float32).max)


class Checker:
    """Checks the blocks of one modality. `nan` counts the values or time steps that contain a NaN."""

    def __init__(
        self, modality: PlannedModality, nan_is_missing: bool, category_names: Sequence[int | str] | None
    ) -> None:
        self.nan = 0
        self._modality = modality
        self._nan_is_missing = nan_is_missing
        count = len(category_names) if category_names else MAX_CATEGORIES
        self._highest = (modality.categories or count) - 1
        self._expected = f"a category from 0 to {self._highest}"
        self._numbers: Array | None = None
        if not modality.text and all(isinstance(name, int) for name in modality.category_names or [""]):
            self._numbers = np.array(modality.category_names)
            self._expected = "one of the declared category_names"

    def check(self, column: Column, first_row: int, faults: Faults) -> Column:
        """The column in its stored dtype. A NaN that means missing becomes absent. Adds a fault for every bad value."""
        if self._modality.dtype == "int64":
            values, present, bad = self._categories(column)
            expected = self._expected
        else:
            with np.errstate(over="ignore"):  # an overflow to infinity is a fault with a place, below
                values = column.values.astype(np.float32, copy=False)
            finite = np.isfinite(values)
            self._refuse_without_density(values, column, first_row, faults)
            if finite.all():
                return Column(values, column.present, column.lengths, column.times)
            bad, present = self._not_finite(values, finite, column.present)
            expected = NUMBER
        for place in np.flatnonzero(bad)[: faults.room()]:
            faults.add(self._fault(column, int(place), first_row, expected))
        return Column(values, present, column.lengths, column.times)

    def _refuse_without_density(self, values: Array, column: Column, first_row: int, faults: Faults) -> None:
        """Add a fault for each value outside the support of the declared likelihood: its density would be 0."""
        likelihood, inside = self._modality.likelihood, tuple(range(1, values.ndim))
        if likelihood is None or (support := find(likelihood).support).is_everything:
            return
        with np.errstate(invalid="ignore"):
            wrong = ~support.contains(values) & np.isfinite(values)
        for place in np.flatnonzero(wrong.any(axis=inside) & column.present)[: faults.room()]:
            steps = row_and_step(column, int(place), first_row)
            element = tuple(int(i) for i in np.argwhere(wrong[place])[0]) if inside else ()
            detail = f"modality {self._modality.name!r} is {values[place][element]:g} at {_where(steps, element)}, "
            detail += f"expected {support}, as its likelihood is declared {likelihood}"
            faults.add(Fault(pointer(self._modality.column, *steps, *element), "bad_value", detail))

    def _categories(self, column: Column) -> tuple[Array, Array, Array]:
        """(values as int64, present, bad): bad marks present values that are no category. Whole floats may be."""
        values, present = column.values, column.present
        if self._numbers is not None:
            values = self._coded(values, self._numbers)
        with np.errstate(invalid="ignore"):
            bad = ~((values >= 0) & (values <= self._highest)) & present
        if values.dtype.kind != "f":
            return values.astype(np.int64, copy=False), present, bad
        missing = np.isnan(values) & present
        self.nan += int(missing.sum())
        if self._nan_is_missing:
            present, bad = present & ~missing, bad & ~missing
        bad |= (values != np.floor(values)) & present
        return np.where(present & ~bad, values, 0).astype(np.int64), present, bad

    @staticmethod
    def _coded(values: Array, names: Array) -> Array:
        """The index of each value among the names, -1 for a value that is no name. NaN propagates."""
        order = np.argsort(names)
        places = order[np.searchsorted(names, values, sorter=order).clip(max=len(names) - 1)]
        coded: Array = np.where(names[places] == values, places, -1)
        return np.where(np.isnan(values), np.nan, coded) if values.dtype.kind == "f" else coded

    def _not_finite(self, values: Array, finite: Array, present: Array) -> tuple[Array, Array]:
        inside = tuple(range(1, values.ndim))
        missing = np.isnan(values).any(axis=inside) & present
        self.nan += int(missing.sum())
        bad = ~finite.all(axis=inside) & present
        return (bad & ~missing, present & ~missing) if self._nan_is_missing else (bad, present)

    def _fault(self, column: Column, place: int, first_row: int, expected: str) -> Fault:
        steps = row_and_step(column, place, first_row)
        item, inside = column.values[place], tuple[int, ...]()
        if item.ndim:
            with np.errstate(over="ignore"):
                inside = tuple(int(i) for i in np.argwhere(~np.isfinite(item.astype(np.float32)))[0])
            item = item[inside]
        if expected is NUMBER and np.isfinite(item):
            expected = f"a number within float32's range, at most {MAX_FLOAT32:.1e} in size"
        detail = f"modality {self._modality.name!r} is {item} at {_where(steps, inside)}, expected {expected}"
        return Fault(pointer(self._modality.column, *steps, *inside), "bad_value", detail)


def _where(steps: tuple[int, ...], inside: tuple[int, ...]) -> str:
    where = f"row {steps[0]}" + (f", step {steps[1]}" if len(steps) > 1 else "")
    return where + (f", element {list(inside)}" if inside else "")


def row_and_step(column: Column, place: int, first_row: int) -> tuple[int, ...]:
    """The position in the file of the value at index `place` of a column: its row, and in sequences its step."""
    if column.lengths is None:
        return (first_row + place,)
    ends = np.cumsum(column.lengths)
    row = int(np.searchsorted(ends, place, side="right"))
    return first_row + row, place - int(ends[row] - column.lengths[row])
