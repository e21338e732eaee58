"""Turns an uploaded .npz into the stored form of a dataset, and says everything that is wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from service.datasets.layout import LENGTHS, MOST_CATEGORIES, PRESENT, Layout, PlannedModality
from service.shared import npz
from service.shared.errors import BadInput, Fault
from service.shared.samples import ModalitySchema, Samples, Schema

Array = np.ndarray[Any, np.dtype[Any]]

MOST_FAULTS = 100


def convert(path: Path, layout: Layout, nan_is_missing: bool, on_modality: Callable[[int], None]) -> Samples:
    """Read, check and pack every modality of a file. `on_modality` hears how many are done.

    Raises BadInput with up to 100 faults, each with modality, row, step, what came and what was expected.
    """
    faults: list[Fault] = []
    values: dict[str, Array] = {}
    present: dict[str, Array] = {}
    lengths: dict[str, Array] = {}
    for done, modality in enumerate(layout.modalities):
        array = npz.read(path, modality.name)
        mask, lengths[modality.name] = _mask(path, modality, layout, faults)
        values[modality.name], present[modality.name] = _checked(array, mask, modality, nan_is_missing, faults)
        on_modality(done + 1)
    anything = np.logical_or.reduce([mask.reshape(layout.rows, -1).any(axis=1) for mask in present.values()])
    for row in np.flatnonzero(~anything)[:MOST_FAULTS]:
        faults.append(Fault("", "empty_row", f"row {row} has no modality at all, expected at least one"))
    if faults:
        raise BadInput(faults[:MOST_FAULTS])
    schema = Schema(
        kind=layout.kind,
        modalities=tuple(
            _schema(modality, values[modality.name][present[modality.name]]) for modality in layout.modalities
        ),
    )
    if layout.kind == "static":
        return Samples(schema, layout.rows, values, present)
    return _packed(schema, layout, values, present, lengths)


def _mask(path: Path, modality: PlannedModality, layout: Layout, faults: list[Fault]) -> tuple[Array, Array]:
    """Presence, (N,) or (N, T) bool, and the length of every row, (N,)."""
    rows, steps, name = layout.rows, modality.steps, modality.name
    mask = np.ones((rows,) if layout.kind == "static" else (rows, steps), dtype=bool)
    lengths = np.full(rows, steps)
    if modality.has_lengths:
        lengths = npz.read(path, name + LENGTHS).astype(np.int64)
        for row in np.flatnonzero((lengths < 0) | (lengths > steps))[:MOST_FAULTS]:
            detail = f"{name}{LENGTHS} is {lengths[row]} at row {row}, expected 0 to {steps}"
            faults.append(Fault(f"/{name}{LENGTHS}/{row}", "bad_length", detail))
        mask &= np.arange(steps)[None, :] < lengths[:, None]
    if modality.has_present:
        given = npz.read(path, name + PRESENT).astype(bool)
        mask &= given[:, None] if given.ndim < mask.ndim else given
    return mask, lengths


def _checked(
    array: Array, mask: Array, modality: PlannedModality, nan_is_missing: bool, faults: list[Fault]
) -> tuple[Array, Array]:
    """The values in their stored dtype and the presence mask; adds a fault for every value that cannot stand."""
    if modality.dtype == "int64":
        highest = (modality.categories or MOST_CATEGORIES) - 1
        bad = ((array < 0) | (array > highest)) & mask
        expected = f"a category from 0 to {highest}"
    else:
        with np.errstate(over="ignore"):  # an overflow to infinity is a fault with a place, below
            array = array.astype(np.float32)
        finite = np.isfinite(array)
        bad = ~finite.all(axis=tuple(range(mask.ndim, array.ndim))) & mask
        if nan_is_missing:
            missing = np.isnan(array).any(axis=tuple(range(mask.ndim, array.ndim)))
            mask = mask & ~missing
            bad &= ~missing
        expected = "a finite number"
    for place in np.argwhere(bad)[: MOST_FAULTS - len(faults)]:
        faults.append(_fault(array, place, modality, expected))
    return array, mask


def _fault(array: Array, place: Array, modality: PlannedModality, expected: str) -> Fault:
    item = array[tuple(place)]
    inside: tuple[int, ...] = ()
    if item.ndim:
        inside = tuple(int(i) for i in np.argwhere(~np.isfinite(item))[0])
        item = item[inside]
    where = f"row {place[0]}" + (f", step {place[1]}" if len(place) > 1 else "")
    where += f", element {list(inside)}" if inside else ""
    pointer = "/".join(["", modality.name, *map(str, place), *map(str, inside)])
    return Fault(pointer, "bad_value", f"modality {modality.name!r} is {item} at {where}, expected {expected}")


def _schema(modality: PlannedModality, given: Array) -> ModalitySchema:
    categories = modality.categories
    if modality.dtype == "int64" and categories is None:
        categories = int(given.max(initial=1)) + 1
    return ModalitySchema(name=modality.name, shape=modality.shape, dtype=modality.dtype, categories=categories)


def _packed(
    schema: Schema, layout: Layout, values: dict[str, Array], present: dict[str, Array], lengths: dict[str, Array]
) -> Samples:
    """Rows of different lengths behind one another. A row is as long as its longest modality."""
    longest = np.maximum.reduce(list(lengths.values()))
    steps = max(modality.steps for modality in layout.modalities)
    inside = np.arange(steps)[None, :] < longest[:, None]
    packed_values = {name: _pad(array, steps)[inside] for name, array in values.items()}
    packed_present = {name: _pad(mask, steps)[inside] for name, mask in present.items()}
    offsets = np.concatenate([[0], np.cumsum(longest)]).astype(np.int64)
    return Samples(schema, layout.rows, packed_values, packed_present, offsets)


def _pad(array: Array, steps: int) -> Array:
    """Zeros behind the last time step, up to `steps`."""
    missing = steps - array.shape[1]
    return np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)]) if missing else array
