"""How the arrays of an .npz file become modalities, from their headers alone."""

from collections.abc import Sequence

import numpy as np

from service.datasets import exported_schema
from service.datasets.declaration import Declaration, Kind
from service.datasets.layout import (
    LENGTHS,
    MAX_FAULTS,
    PRESENT,
    SUFFIXES,
    TIME,
    Column,
    ColumnKind,
    DataWarning,
    Layout,
    settle,
)
from service.shared.errors import BadInput, Fault, pointer
from service.shared.npz import ArrayHeader


def known(arrays: Sequence[ArrayHeader], declaration: Declaration) -> tuple[Declaration, list[DataWarning]]:
    """The declaration, with the roles of arrays that have the names of downloads and one text or number per row."""
    split = exported_schema.role_columns(declaration).get("split")
    fit = [a.name for a in arrays if len(a.shape) == 1 and a.dtype.kind in ("US" if a.name == split else "USiu")]
    return exported_schema.with_known_columns(declaration, fit)


def plan(arrays: Sequence[ArrayHeader], declaration: Declaration) -> Layout:
    """Lay out the arrays of an .npz file as modalities.

    Raises BadInput with all faults, each with its array.
    """
    by_name = {array.name: array for array in arrays}
    left_out = declaration.left_out()
    own = left_out | declaration.names().keys()
    values = [array for array in arrays if array.name in own or not array.name.endswith(SUFFIXES)]
    beside = by_name.keys() - {array.name for array in values}
    has_steps = any(name.endswith((LENGTHS, TIME)) for name in beside) or any(_masks_steps(a, by_name) for a in values)
    kind = declaration.kind or ("sequence" if has_steps else "static")
    rows = max((array.shape[0] for array in values if array.shape), default=0)
    faults: list[Fault] = []
    for name in sorted(beside):
        base = _without_suffix(name)
        if base not in by_name:
            faults.append(Fault(pointer(name), "unknown_array", f"{name!r} describes {base!r}, which the file lacks"))
    if rows == 0:
        faults.append(Fault("", "no_rows", "the file has no array with at least one row"))
    columns = []
    axes = 2 if kind == "sequence" else 1
    for array in values:
        if array.name in left_out:
            faults += _unfit_role(array, rows, array.name in declaration.ignore)
        else:
            faults += _unfit_array(array, kind, rows, by_name)
            if array.dtype.kind in "US":
                detail = (
                    f"array {array.name!r} has dtype {array.dtype}, expected numbers; text is for ids, labels, split"
                )
                faults.append(Fault(pointer(array.name), "not_numeric", detail))
        columns.append(Column(array.name, array.shape[axes:], _kind_of(array.dtype)))
    settled = None
    try:
        settled = settle(kind, rows, columns, declaration)
    except BadInput as error:
        faults = [*error.faults, *faults]
    if faults or settled is None:
        raise BadInput(faults[:MAX_FAULTS])
    return settled


def _without_suffix(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _kind_of(dtype: np.dtype[np.generic]) -> ColumnKind:
    kinds: dict[str, ColumnKind] = {"f": "float", "i": "integer", "u": "integer", "b": "boolean"}
    return kinds.get(dtype.kind, "text")


def _masks_steps(array: ArrayHeader, by_name: dict[str, ArrayHeader]) -> bool:
    """Whether an array of vectors or larger values has a mask per row and step.

    The mask of an array (rows, n) says nothing about steps: n may be features.
    """
    present = by_name.get(array.name + PRESENT)
    return present is not None and len(array.shape) > 2 and present.shape == array.shape[:2]


def _unfit_role(array: ArrayHeader, rows: int, ignored: bool) -> list[Fault]:
    if ignored or array.shape == (rows,):
        return []
    detail = f"array {array.name!r} has shape {array.shape}, expected one value for each of {rows} rows"
    return [Fault(pointer(array.name), "bad_shape", detail)]


def _unfit_array(array: ArrayHeader, kind: Kind, rows: int, by_name: dict[str, ArrayHeader]) -> list[Fault]:
    axes = 2 if kind == "sequence" else 1
    if len(array.shape) < axes:
        detail = f"array {array.name!r} has shape {array.shape}, expected {'rows, steps' if axes == 2 else 'rows'}, …"
        return [Fault(pointer(array.name), "bad_shape", detail)]
    faults: list[Fault] = []
    if array.shape[0] != rows or 0 in array.shape:
        detail = f"array {array.name!r} has shape {array.shape}, expected {rows} rows"
        faults.append(Fault(pointer(array.name), "bad_shape", detail))
    present = by_name.get(array.name + PRESENT)
    shapes = [array.shape[:1], array.shape[:2]] if kind == "sequence" else [array.shape[:1]]
    if present and (present.shape not in shapes or present.dtype.kind not in "biu"):
        detail = f"{present.name!r} is {present.dtype}{present.shape}, expected bool of shape {shapes[-1]}"
        if kind == "static" and present.shape == array.shape[:2]:
            detail += '; if the second axis is time, declare "kind": "sequence"'
        faults.append(Fault(pointer(present.name), "bad_mask", detail))
    lengths = by_name.get(array.name + LENGTHS)
    if lengths and (kind == "static" or lengths.shape != array.shape[:1] or lengths.dtype.kind not in "iu"):
        detail = f"{lengths.name!r} is {lengths.dtype}{lengths.shape}, expected integers of shape {array.shape[:1]}"
        if kind == "static":
            detail = f"{lengths.name!r} gives lengths, but the dataset is static; declare kind: sequence"
        faults.append(Fault(pointer(lengths.name), "bad_lengths", detail))
    time = by_name.get(array.name + TIME)
    if time and (kind == "static" or time.shape != array.shape[:2] or time.dtype.kind not in "iuf"):
        detail = f"{time.name!r} is {time.dtype}{time.shape}, expected seconds of shape {array.shape[:2]}"
        if kind == "static":
            detail = f"{time.name!r} gives times, but the dataset is static; declare kind: sequence"
        faults.append(Fault(pointer(time.name), "bad_times", detail))
    return faults
