"""Aligns the modalities of a sequence on common time steps: by step number, or by the times of their readings."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from service.shared.errors import Fault, pointer
from worker.ingest.block import Array, Block, Column
from worker.ingest.check import row_and_step
from worker.ingest.faults import Faults

# In steps: a time that lies this little before a step belongs to it, so that rounding moves no reading.
ROUNDING = 1e-6
MAX_STEPS = 2**24


class Plan(NamedTuple):
    """The common steps of a block, without its values.

    steps: by name (V,), the step of every reading within its row. lengths: (rows,), the number of steps of every row.
    """

    steps: Mapping[str, Array]
    lengths: Array


class Packed(NamedTuple):
    """Concatenated sequences of a block on common steps. offsets: (rows + 1,), the first step of every row."""

    values: Mapping[str, Array]
    present: Mapping[str, Array]
    offsets: Array


def plan(block: Block, step_seconds: float | None, faults: Faults) -> Plan:
    """Find the common steps of the modalities of every row.

    Without step_seconds they share their step numbers, and a row is as long as its longest modality. With it, step k
    holds the readings from k to k + 1 times step_seconds after the first reading of the row: of several numbers their
    mean, of several categories the last one.
    """
    steps = {name: _numbers(column) for name, column in block.columns.items()}
    if step_seconds is not None:
        steps = _timed(block, step_seconds, faults)
    return Plan(steps, np.maximum.reduce([_lengths(block, name, numbers) for name, numbers in steps.items()]))


def pack(block: Block, plan: Plan, first: int, last: int) -> Packed:
    """Put the values of the rows from first to before last on their common steps."""
    lengths = plan.lengths[first:last]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values, present = {}, {}
    for name, whole in block.columns.items():
        begin, end = (int(_of(whole)[:row].sum()) for row in (first, last))
        column = Column(whole.values[begin:end], whole.present[begin:end], _of(whole)[first:last])
        steps = plan.steps[name][begin:end]
        places = offsets[:-1][_rows(column)] + steps
        if len(places) == offsets[-1] and np.array_equal(places, np.arange(offsets[-1])):
            values[name], present[name] = column.values, column.present
        else:
            values[name], present[name] = _spread(column, places, int(offsets[-1]))
    return Packed(values, present, offsets)


def _of(column: Column) -> Array:
    assert column.lengths is not None  # noqa: S101 blocks of sequences have lengths
    return column.lengths


def _rows(column: Column) -> Array:
    """The row within the block of every time step: (V,)."""
    return np.repeat(np.arange(len(_of(column))), _of(column))


def _numbers(column: Column) -> Array:
    """The number of every time step within its row: (V,)."""
    lengths = _of(column)
    numbers: Array = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return numbers


def _timed(block: Block, step_seconds: float, faults: Faults) -> dict[str, Array]:
    """The step of every reading. A reading with an unusable time adds a fault and gets step 0."""
    first = np.full(block.rows, np.inf)
    usable = {}
    for name, column in block.columns.items():
        times = _times(name, column)
        usable[name] = np.isfinite(times)
        for place in np.flatnonzero(~usable[name])[: faults.room()]:
            where = row_and_step(column, int(place), block.first_row)
            detail = f"{name}.time is {times[place]} at row {where[0]}, step {where[1]}, expected seconds"
            faults.add(Fault(pointer(f"{name}.time", *where), "bad_time", detail))
        np.minimum.at(first, _rows(column)[usable[name]], times[usable[name]])
    found = {}
    for name, column in block.columns.items():
        since = np.where(usable[name], _times(name, column) - first[_rows(column)], 0.0)
        found[name] = np.floor(since / step_seconds + ROUNDING)
        for place in np.flatnonzero(found[name] >= MAX_STEPS)[: faults.room()]:
            where = row_and_step(column, int(place), block.first_row)
            detail = (
                f"{name}.time at row {where[0]}, step {where[1]} is {since[place]} s after the row's first reading, "
                f"expected less than {MAX_STEPS} steps of {step_seconds} s"
            )
            faults.add(Fault(pointer(f"{name}.time", *where), "too_long", detail))
        found[name] = np.where(found[name] < MAX_STEPS, found[name], 0).astype(np.int64)
    return found


def _times(name: str, column: Column) -> Array:
    assert column.times is not None, name  # noqa: S101 the conversion has refused modalities without times
    return column.times


def _lengths(block: Block, name: str, numbers: Array) -> Array:
    """The number of steps that every row needs for a modality: (rows,)."""
    column = block.columns[name]
    lengths = np.zeros(block.rows, np.int64)
    np.maximum.at(lengths, _rows(column), numbers + 1)
    return lengths


def _spread(column: Column, places: Array, steps: int) -> tuple[Array, Array]:
    """Values (steps, *shape) and presence (steps,) of the readings at `places`; several at one step become one."""
    given = places[column.present]
    came = column.values[column.present]
    present = np.zeros(steps, bool)
    present[given] = True
    values = np.zeros((steps, *column.values.shape[1:]), column.values.dtype)
    if column.values.dtype.kind == "f" and len(given) > np.count_nonzero(present):
        sums = np.zeros(values.shape, np.float64)
        np.add.at(sums, given, came)
        counts = np.bincount(given, minlength=steps).reshape(-1, *[1] * (values.ndim - 1))
        return (sums / np.maximum(counts, 1)).astype(values.dtype), present
    values[given] = came  # of several at one step, the last one remains
    return values, present
