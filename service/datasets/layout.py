"""How the columns of a file become modalities."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from models.config import LikelihoodName
from service.datasets.declaration import CategoryNames, Declaration, DeclaredModality, Kind
from service.shared.errors import BadInput, Fault, pointer
from service.shared.resource_names import NAME_PATTERN

# An array NAME of an .npz file may have these beside it.
PRESENT = ".present"
LENGTHS = ".lengths"
TIME = ".time"
SUFFIXES = (PRESENT, LENGTHS, TIME)

REJECTED = "dataset_rejected"
"""The error code of a conversion whose data cannot become a dataset. Another attempt would fail too."""
MAX_FAULTS = 100  # per response

ColumnKind = Literal["float", "decimal", "integer", "boolean", "text"]


@dataclass(frozen=True)
class DataWarning:
    """What a conversion inferred from the data, or found doubtful. A version with warnings is ready.

    column: the column of the file, None for the whole file.
    """

    code: Annotated[str, Field(description="Kind of warning: stable, for programs.")]
    detail: Annotated[str, Field(description="What was inferred or found, and what to declare instead, for people.")]
    column: Annotated[str | None, Field(description="Column of the file; null: the whole file.")] = None


@dataclass(frozen=True)
class Column:
    """A column of a file, as its header or first rows show it. shape: of one value or time step."""

    name: str
    shape: tuple[int, ...]
    kind: ColumnKind


@dataclass(frozen=True)
class PlannedModality:
    """One modality before its values are read. column: its name in the file."""

    name: str
    column: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"]
    categories: int | None
    integral: bool
    """Whether the type of the column holds whole numbers only."""
    text: bool = False
    """Whether the column holds names of categories."""
    category_names: CategoryNames | None = None
    """The declared names, or the whole numbers that the file uses as names."""
    units: str | None = None
    likelihood: LikelihoodName | None = None


@dataclass(frozen=True)
class Layout:
    """All modalities of a file, sorted by name. rows: None if it is only known after reading the whole file."""

    kind: Kind
    rows: int | None
    modalities: tuple[PlannedModality, ...]
    warnings: tuple[DataWarning, ...] = ()


def settle(kind: Kind, rows: int | None, columns: Sequence[Column], declaration: Declaration) -> Layout:
    """Plan one modality per column that has no other role.

    Raises BadInput with all faults: names, declared columns that the file lacks, wrong types.
    """
    left_out, names = declaration.left_out(), declaration.names()
    known = {column.name for column in columns}
    faults = [
        Fault(pointer("schema", "modalities", name), "unknown_column", f"there is no column {column!r}, {_only(known)}")
        for column, name in names.items()
        if column not in known
    ]
    faults += [
        Fault(pointer("schema", role), "unknown_column", f"there is no column {name!r}, {_only(known)}")
        for role, name in declaration.role_columns().items()
        if name not in known
    ]
    planned = []
    for column in columns:
        if column.name in left_out:
            continue
        name = names.get(column.name, column.name)
        if column.name not in names and (fault := _unfit_name(name, declaration)):
            faults.append(fault)
            continue
        declared = declaration.modalities.get(name, DeclaredModality())
        faults += _unfit(column, declared)
        planned.append(_planned(name, column, declared))
    if not planned and not faults:
        faults.append(Fault("", "no_modality", "the file has no column that can be a modality, expected at least one"))
    if faults:
        raise BadInput(faults[:MAX_FAULTS])
    return Layout(kind, rows, tuple(sorted(planned, key=lambda modality: modality.name)))


def _unfit_name(name: str, declaration: Declaration) -> Fault | None:
    """Why the name of an undeclared column cannot be the name of a modality, if so."""
    if not re.fullmatch(NAME_PATTERN, name):
        short = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:100].strip("_-") or "x"
        example = json.dumps({short: {"column": name[:100] if name.isprintable() else "…"}}, ensure_ascii=False)
        detail = (
            f"column name {name[:100]!r} does not match {NAME_PATTERN}, the pattern of modality names; name it with "
            f'"modalities": {example}, or declare the column as ids, labels, split or ignore'
        )
        return Fault("", "bad_name", detail)
    if name in declaration.modalities:
        other = declaration.column_of(name)
        detail = f"column {other!r} is declared to be modality {name!r}, and there is a column {name!r} too; ignore one"
        return Fault(pointer(name), "two_columns", detail)
    return None


def _unfit(column: Column, declared: DeclaredModality) -> list[Fault]:
    place = pointer(column.name)
    faults = []
    if declared.shape is not None and declared.shape != column.shape:
        detail = f"a value of {column.name!r} has shape {column.shape}, expected {declared.shape} as declared"
        faults.append(Fault(place, "wrong_shape", detail))
    if declared.is_category and column.shape:
        detail = f"{column.name!r} is {column.kind} of shape {column.shape}, expected one category per value"
        faults.append(Fault(place, "not_a_category", detail))
    if column.kind == "decimal" and not (declared.dtype or declared.likelihood or declared.is_category):
        detail = f"{column.name!r} holds decimals, expected floats; cast it, or declare dtype float32 to round it"
        faults.append(Fault(place, "decimal", detail))
    if column.kind == "text" and any(isinstance(name, int) for name in declared.category_names or ()):
        detail = f"{column.name!r} is text, and the declared category_names are numbers, expected the texts it holds"
        faults.append(Fault(place, "not_numeric", detail))
    if column.kind == "text" and declared.dtype_of_likelihood == "float32":
        detail = f"{column.name!r} is text, and its likelihood is declared {declared.likelihood}, expected numbers"
        faults.append(Fault(place, "not_numeric", detail))
    if column.kind == "text" and (declared.dtype == "float32" or column.shape):
        detail = (
            f"{column.name!r} is text of shape {column.shape}, expected numbers, or the name of one category per value"
        )
        faults.append(Fault(place, "not_numeric", detail))
    return faults


def _planned(name: str, column: Column, declared: DeclaredModality) -> PlannedModality:
    a_density_of_numbers = declared.dtype_of_likelihood == "float32"
    a_category = declared.is_category or (
        column.kind in ("integer", "text") and column.shape == () and not a_density_of_numbers
    )
    return PlannedModality(
        name=name,
        column=column.name,
        shape=column.shape,
        dtype=declared.dtype or ("int64" if a_category else "float32"),
        categories=declared.categories,
        integral=column.kind in ("integer", "boolean"),
        text=column.kind == "text",
        category_names=declared.category_names,
        units=declared.units,
        likelihood=declared.likelihood,
    )


def _only(known: set[str]) -> str:
    return f"only {', '.join(sorted(known))}"[:500]
