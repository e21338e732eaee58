"""The `inputs` of a JSON body become Rows: nested lists of any subset of the modalities, null where one is missing.

Every fault names its place: `modality 'audio' has 39 features at inputs.audio[3], expected 40`.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from models.config import ModalityConfig
from service.inference.modality_values import Array, Mismatch, shown, to_array
from service.inference.queries import Config
from service.inference.rows import MAX_BYTES, RowLimits, Rows
from service.shared.errors import BadInput, Fault, TooLarge, pointer

Place = tuple[str | int, ...]

MAX_FAULTS = 20


def decode_rows(inputs: Any, config: Config, limits: RowLimits) -> Rows:
    """Rows from `inputs`: modality -> a list of values, null for a sample that lacks it. Sequences are lists of steps.

    Raises BadInput with the place of every fault.
    """
    known = {modality.name: modality for modality in config.modalities}
    columns = _columns(inputs, known, limits.rows)
    count = len(next(iter(columns.values())))
    faults: list[Fault] = []
    if config.kind == "static":
        limits.check_steps(count, 1)
        rows = _samples(columns, known, count, faults)
    else:
        rows = _sequences(columns, known, count, limits, faults)
    if not faults and not any(np.count_nonzero(mask) == mask.size for mask in rows.present.values()):
        present = np.zeros(count, dtype=bool)
        for mask in rows.present.values():
            present |= mask if mask.ndim == 1 else mask.any(axis=1)
        faults = [
            Fault("/inputs", "no_modality", f"row {row} has no modality at all, expected at least one")
            for row in np.flatnonzero(~present)[:MAX_FAULTS]
        ]
    if faults:
        raise BadInput(faults[:MAX_FAULTS])
    return rows


def _columns(inputs: Any, known: dict[str, ModalityConfig], max_rows: int) -> dict[str, list[Any]]:
    """The inputs as one list per modality, all of one length."""
    if not isinstance(inputs, dict) or not inputs:
        detail = f"inputs is {shown(inputs)}, expected an object with at least one of the modalities {sorted(known)}"
        raise BadInput([Fault("/inputs", "no_modality", detail)])
    faults = []
    for name, column in islice(inputs.items(), MAX_FAULTS + len(known)):
        if name not in known:
            detail = f"inputs has a modality {name[:100]!r}, expected some of {sorted(known)}"
            faults.append(Fault(pointer("inputs", name), "unknown_modality", detail))
        elif not isinstance(column, list) or not column:
            detail = f"inputs.{name} is {shown(column)}, expected a list with one value or null per sample"
            faults.append(Fault(pointer("inputs", name), "not_a_list", detail))
    if faults:
        raise BadInput(faults)
    counts = {name: len(column) for name, column in inputs.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(
            [Fault("/inputs", "row_counts_differ", f"the modalities have different numbers of rows: {counts}")]
        )
    count = next(iter(counts.values()))
    if count > max_rows:
        raise BadInput([Fault("/inputs", "too_many_rows", f"{count} rows, expected at most {max_rows}")])
    return inputs


def _check_bytes(count: int, modalities: Iterable[ModalityConfig]) -> None:
    """Raise TooLarge before anything is allocated: nulls are short in JSON, and as long as values in an array."""
    size = 0
    for modality in modalities:
        size += count * math.prod(modality.shape) * np.dtype(modality.dtype).itemsize
        if size > MAX_BYTES:
            detail = f"inputs.{modality.name} has room for {count} values of shape {list(modality.shape)}: {size} bytes"
            expected = f"with zeros for what is missing, and the modalities before it, expected at most {MAX_BYTES}"
            raise TooLarge("rows_too_large", f"{detail} {expected}; send fewer rows")


def _samples(columns: dict[str, list[Any]], known: dict[str, ModalityConfig], count: int, faults: list[Fault]) -> Rows:
    values, present = {}, {}
    _check_bytes(count, (known[name] for name in columns))
    for name, column in columns.items():
        values[name], present[name] = _to_arrays(column, known[name], ("inputs", name), faults)
    return Rows(count, values, present, None)


def _sequences(
    columns: dict[str, list[Any]], known: dict[str, ModalityConfig], count: int, limits: RowLimits, faults: list[Fault]
) -> Rows:
    lengths = np.zeros(count, dtype=np.int64)
    for name, column in columns.items():
        for row, steps in enumerate(column):
            if steps is None:
                continue
            if len(faults) == MAX_FAULTS:
                break
            if not isinstance(steps, list) or not steps:
                detail = f"inputs.{name}[{row}] is {shown(steps)}, expected a list of time steps or null"
                faults.append(Fault(pointer("inputs", name, row), "not_a_sequence", detail))
            elif lengths[row] not in (0, len(steps)):
                detail = f"inputs.{name}[{row}] has {len(steps)} steps, another modality of the row has {lengths[row]}"
                faults.append(Fault(pointer("inputs", name, row), "lengths_differ", detail))
            else:
                lengths[row] = len(steps)
    values: dict[str, Array] = {}
    present: dict[str, Array] = {}
    if faults:
        return Rows(count, values, present, lengths)
    longest = int(lengths.max(initial=1))
    limits.check_steps(count, longest)
    _check_bytes(count * longest, (known[name] for name in columns))
    for name, column in columns.items():
        modality = known[name]
        values[name] = np.zeros((count, longest, *modality.shape), dtype=modality.dtype)
        present[name] = np.zeros((count, longest), dtype=bool)
        for row, steps in enumerate(column):
            if steps is not None:
                array, mask = _to_arrays(steps, modality, ("inputs", name, row), faults)
                values[name][row, : len(steps)] = array
                present[name][row, : len(steps)] = mask
    return Rows(count, values, present, lengths)


def _to_arrays(items: list[Any], modality: ModalityConfig, place: Place, faults: list[Fault]) -> tuple[Array, Array]:
    """Values (N, *shape) with zeros for nulls, and a mask (N,) of those that are not null."""
    if None not in items:
        array = to_array(items, modality)
        if not isinstance(array, Mismatch):
            return array, np.ones(len(items), dtype=bool)
    values = np.zeros((len(items), *modality.shape), dtype=modality.dtype)
    present = np.array([item is not None for item in items], dtype=bool)
    present_items = [item for item in items if item is not None]
    if present_items:
        array = to_array(present_items, modality)
        if isinstance(array, Mismatch):
            faults.extend(_faults(items, modality, place)[: MAX_FAULTS - len(faults)])
        else:
            values[present] = array
    return values, present


def _faults(items: list[Any], modality: ModalityConfig, place: Place) -> list[Fault]:
    """The first items that do not fit a modality. Only called if the whole list does not fit."""
    faults = []
    for i, wrong in islice(_mismatches(items, 0, len(items), modality), MAX_FAULTS):
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*place, i))[1:]
        detail = f"modality {modality.name!r} has {wrong.found} at {where}, expected {wrong.expected}"
        faults.append(Fault(pointer(*place, i), "bad_value", detail))
    return faults


def _mismatches(items: list[Any], first: int, last: int, modality: ModalityConfig) -> Iterator[tuple[int, Mismatch]]:
    """The mismatches in items[first:last], by bisection: a check of each item alone took 5 µs per good item."""
    present_items = [item for item in items[first:last] if item is not None]
    wrong = to_array(present_items, modality) if present_items else None
    if not isinstance(wrong, Mismatch):
        return
    if last - first == 1:
        yield first, wrong
        return
    middle = (first + last) // 2
    yield from _mismatches(items, first, middle, modality)
    yield from _mismatches(items, middle, last, modality)
