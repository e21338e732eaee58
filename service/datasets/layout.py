"""How the arrays of an upload become modalities: checked before a job is queued, followed when it runs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.shared.errors import BadInput, Fault
from service.shared.names import NAME_PATTERN, Name
from service.shared.npz import ArrayHeader

PRESENT = ".present"
LENGTHS = ".lengths"

REJECTED = "dataset_rejected"
"""The error code of a conversion whose data cannot be a dataset, however often it is tried."""

MOST_CATEGORIES = 100_000
MOST_FAULTS = 100


class DeclaredModality(BaseModel):
    """What the caller knows of a modality that its array does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float32", "int64"] | None = Field(
        default=None,
        description="float32 for numbers, int64 for categories, the default of scalar integers.",
    )
    categories: Annotated[int, Field(ge=2, le=MOST_CATEGORIES)] | None = Field(
        default=None, description="Number of categories; by default the largest value plus one."
    )

    @model_validator(mode="after")
    def _categories_are_integers(self) -> Self:
        if self.categories is not None and self.dtype == "float32":
            raise ValueError("categories are int64; leave out one of dtype and categories")
        return self


class Declaration(BaseModel):
    """What the caller says of the data. All of it has defaults that follow from the arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["static", "sequence"] = Field(
        default="static", description="sequence: the second axis of every array is time."
    )
    modalities: dict[Name, DeclaredModality] = Field(
        default={}, description="By array name. Arrays that are not named here are modalities too."
    )
    nan: Literal["refuse", "missing"] = Field(
        default="refuse", description="missing: a value or time step that holds a NaN counts as not given."
    )


@dataclass(frozen=True)
class PlannedModality:
    """One modality before its values were read."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"]
    categories: int | None
    integral: bool
    """Whether the array holds whole numbers by its type."""
    steps: int
    has_present: bool
    has_lengths: bool


@dataclass(frozen=True)
class Layout:
    """All modalities of an upload and how many rows they share."""

    kind: Literal["static", "sequence"]
    rows: int
    modalities: tuple[PlannedModality, ...]


def plan(arrays: Sequence[ArrayHeader], declaration: Declaration) -> Layout:
    """Lay out the arrays of a file as modalities.

    Raises BadInput with everything that does not fit, each fault with the array it is about.
    """
    by_name = {array.name: array for array in arrays}
    values = [array for array in arrays if not array.name.endswith((PRESENT, LENGTHS))]
    faults = [*_strangers(by_name, values, declaration)]
    rows = max((array.shape[0] for array in values if array.shape), default=0)
    if rows == 0:
        faults.append(Fault("", "no_rows", "the file has no array with at least one row"))
    planned: list[PlannedModality] = []
    for array in values:
        if not re.fullmatch(NAME_PATTERN, array.name):
            faults.append(Fault("", "bad_name", f"array name {array.name[:100]!r} does not match {NAME_PATTERN}"))
        declared = declaration.modalities.get(array.name, DeclaredModality())
        faults += _unfit(array, declared, declaration.kind, rows, by_name)
        planned.append(_planned(array, declared, declaration.kind, by_name))
    if faults:
        raise BadInput(faults[:MOST_FAULTS])
    return Layout(declaration.kind, rows, tuple(sorted(planned, key=lambda modality: modality.name)))


def _strangers(by_name: dict[str, ArrayHeader], values: list[ArrayHeader], declaration: Declaration) -> Sequence[Fault]:
    known = {array.name for array in values}
    faults = [
        Fault(
            f"/schema/modalities/{name}", "unknown_array", f"the upload has no array {name!r}; it has {sorted(known)}"
        )
        for name in declaration.modalities
        if name not in known
    ]
    for name in by_name:
        base = name.removesuffix(PRESENT).removesuffix(LENGTHS)
        if base != name and base not in known:
            faults.append(Fault(f"/{name}", "unknown_array", f"{name!r} describes {base!r}, which the upload lacks"))
    return faults


def _unfit(
    array: ArrayHeader, declared: DeclaredModality, kind: str, rows: int, by_name: dict[str, ArrayHeader]
) -> Sequence[Fault]:
    place = f"/{array.name}"
    faults: list[Fault] = []
    axes = 2 if kind == "sequence" else 1
    if len(array.shape) < axes:
        detail = f"array {array.name!r} has shape {array.shape}, expected {'rows, steps' if axes == 2 else 'rows'}, …"
        return [Fault(place, "bad_shape", detail)]
    if array.shape[0] != rows or 0 in array.shape:
        faults.append(Fault(place, "bad_shape", f"array {array.name!r} has shape {array.shape}, expected {rows} rows"))
    is_category = declared.categories is not None or declared.dtype == "int64"
    if is_category and (array.dtype.kind not in "iu" or array.shape[axes:]):
        detail = f"array {array.name!r} is {array.dtype}{array.shape[axes:]}, expected one integer category a sample"
        faults.append(Fault(place, "not_a_category", detail))
    present = by_name.get(array.name + PRESENT)
    shapes = [array.shape[:1], array.shape[:2]] if kind == "sequence" else [array.shape[:1]]
    if present and (present.shape not in shapes or present.dtype.kind not in "biu"):
        detail = f"{present.name!r} is {present.dtype}{present.shape}, expected bool of shape {shapes[-1]}"
        faults.append(Fault(f"/{present.name}", "bad_mask", detail))
    lengths = by_name.get(array.name + LENGTHS)
    if lengths and (kind == "static" or lengths.shape != array.shape[:1] or lengths.dtype.kind not in "iu"):
        detail = f"{lengths.name!r} is {lengths.dtype}{lengths.shape}, expected integers of shape {array.shape[:1]}"
        if kind == "static":
            detail = f"{lengths.name!r} gives lengths, but the dataset is static; declare kind: sequence"
        faults.append(Fault(f"/{lengths.name}", "bad_lengths", detail))
    return faults


def _planned(
    array: ArrayHeader, declared: DeclaredModality, kind: Literal["static", "sequence"], by_name: dict[str, Any]
) -> PlannedModality:
    axes = 2 if kind == "sequence" else 1
    shape = array.shape[axes:]
    scalar_integers = np.issubdtype(array.dtype, np.integer) and shape == ()
    dtype = declared.dtype or ("int64" if scalar_integers else "float32")
    return PlannedModality(
        name=array.name,
        shape=shape,
        dtype=dtype,
        categories=declared.categories,
        integral=array.dtype.kind in "biu",
        steps=array.shape[1] if axes == 2 and len(array.shape) > 1 else 1,
        has_present=array.name + PRESENT in by_name,
        has_lengths=array.name + LENGTHS in by_name,
    )
