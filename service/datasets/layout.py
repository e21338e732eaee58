"""What a caller says of its data, and how columns of a file become modalities."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from models.config import LikelihoodName
from models.config.likelihood import Dtype, find
from service.datasets.conversion_warnings import DataWarning
from service.datasets.split import Split, SplitColumn
from service.shared.errors import BadInput, Fault, pointer
from service.shared.resource_names import NAME_PATTERN, ColumnName, Name

PRESENT = ".present"
LENGTHS = ".lengths"
TIME = ".time"
SUFFIXES = (PRESENT, LENGTHS, TIME)

REJECTED = "dataset_rejected"
"""The error code of a conversion whose data cannot be a dataset, however often it is tried."""

MAX_COLUMNS = 1000
"""As many as a file may have."""
MOST_CATEGORIES = 100_000
MAX_CATEGORY_CHARACTERS = 200
MOST_FAULTS = 100

Kind = Literal["static", "sequence"]
Extent = Annotated[int, Field(ge=1, le=2**24)]


def _category_names(value: Any) -> tuple[int | str, ...]:
    names = tuple(value) if isinstance(value, list | tuple) else ()
    kinds = {type(name) for name in names}
    if kinds not in ({int}, {str}) or len(names) > MOST_CATEGORIES:
        raise ValueError(f"expected a list of up to {MOST_CATEGORIES} names, all of them texts or all whole numbers")
    if any(isinstance(name, str) and len(name) > MAX_CATEGORY_CHARACTERS for name in names):
        raise ValueError(f"a name is longer than {MAX_CATEGORY_CHARACTERS} letters, expected a shorter one")
    if len({*names}) < len(names):
        raise ValueError("a name is there twice, expected one for each category")
    return names


CategoryNames = Annotated[tuple[int | str, ...], BeforeValidator(_category_names)]
ColumnKind = Literal["float", "decimal", "integer", "boolean", "text"]


class DeclaredModality(BaseModel):
    """What the caller knows of a modality that the file does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: ColumnName | None = Field(
        default=None, description="The column of the file that holds it, where that has another name."
    )
    dtype: Literal["float32", "int64"] | None = Field(
        default=None,
        description="float32 for numbers, int64 for categories. By default text is categories, and so are whole "
        "numbers without a shape that have few different values.",
    )
    shape: Annotated[tuple[Extent, ...], Field(max_length=6)] | None = Field(
        default=None, description="Shape of one value; what the file holds must have it."
    )
    categories: Annotated[int, Field(ge=2, le=MOST_CATEGORIES)] | None = Field(
        default=None, description="Number of categories, counted from 0; by default they are the values that occur."
    )
    category_names: CategoryNames | None = Field(
        default=None,
        description="What the categories are called, by their number. Texts that the column holds, or that stand for "
        "the numbers that it holds; or the whole numbers that it holds.",
    )
    units: Annotated[str, Field(max_length=40)] | None = Field(default=None, description="For people.")
    likelihood: LikelihoodName | None = Field(
        default=None, description="The density that a model gives it; by default what its type and values suggest."
    )

    @property
    def is_category(self) -> bool:
        """Whether it was said to have categories: by their number, type or density."""
        counted = self.categories is not None or self.category_names is not None
        return counted or "int64" in (self.dtype, self.dtype_of_likelihood)

    @property
    def dtype_of_likelihood(self) -> Dtype | None:
        """The type of the values that the declared likelihood is for; None without one."""
        return None if self.likelihood is None else find(self.likelihood).dtype

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.categories is not None and self.dtype == "float32":
            raise ValueError("categories are int64; leave out one of dtype and categories")
        names = self.category_names or ()
        if names and self.dtype == "float32":
            raise ValueError("categories are int64; leave out one of dtype and category_names")
        if self.categories is not None and len(names) > self.categories:
            raise ValueError(f"category_names has {len(names)} names, expected at most {self.categories} as declared")
        if self.dtype_of_likelihood == "int64" and self.dtype == "float32":
            raise ValueError(f"likelihood {self.likelihood} is for int64, and dtype is float32; leave out one of them")
        if self.dtype_of_likelihood == "float32" and self.is_category:
            said = "categories are given" if self.categories is not None else "dtype is int64"
            raise ValueError(f"likelihood {self.likelihood} is for float32, and {said}; leave out one of them")
        return self


class Declaration(BaseModel):
    """What the caller says of the data. All of it has defaults that follow from the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = Field(
        default=None,
        description="sequence: values have a time axis. By default it follows from the file: lengths, times, or "
        "nested lists of different lengths make sequences.",
    )
    modalities: dict[Name, DeclaredModality] = Field(
        default={},
        max_length=MAX_COLUMNS,
        description="By name, which is its column's unless `column` says another. All other columns are "
        "modalities too.",
    )
    nan: Literal["refuse", "missing"] = Field(
        default="refuse", description="missing: a value or time step that holds a NaN counts as not given."
    )
    split: Split | None = Field(
        default=None, description="Which rows are held out: a column that says so, or fractions."
    )
    ids: ColumnName | None = Field(default=None, description="A column with the rows' names, which is no modality.")
    labels: ColumnName | None = Field(default=None, description="A column to tell rows apart by, which is no modality.")
    ignore: Annotated[list[ColumnName], Field(max_length=MAX_COLUMNS)] = Field(
        default=[], description="Columns to leave out."
    )
    step_seconds: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="For sequences with times (`NAME.time`, in seconds): the length of the time steps that readings "
        "are sorted into. A step without a reading is absent.",
    )

    @model_validator(mode="after")
    def _no_column_has_two_roles(self) -> Self:
        of_modalities = [declared.column or name for name, declared in self.modalities.items()]
        roles = Counter([*of_modalities, *self.ignore, *self.role_columns().values()])
        if twice := sorted(name for name, count in roles.items() if count > 1):
            raise ValueError(
                f"{', '.join(twice[:10])} has two roles; a column is a modality, ids, labels, split or ignored"
            )
        if self.step_seconds is not None and self.kind == "static":
            raise ValueError("step_seconds is for sequences; leave it out, or declare kind: sequence")
        return self

    def role_columns(self) -> dict[str, str]:
        """The columns that are no modality, by their role: ids, labels, split."""
        split = self.split.column if isinstance(self.split, SplitColumn) else None
        roles = {"ids": self.ids, "labels": self.labels, "split": split}
        return {role: column for role, column in roles.items() if column is not None}

    def left_out(self) -> set[str]:
        """The columns that are no modality."""
        return {*self.ignore, *self.role_columns().values()}

    def names(self) -> dict[str, str]:
        """The modalities that are declared, by their column in the file."""
        return {self.column_of(name): name for name in self.modalities}

    def column_of(self, modality: str) -> str:
        """The column of the file that holds a modality."""
        declared = self.modalities.get(modality)
        return modality if declared is None or declared.column is None else declared.column


@dataclass(frozen=True)
class Column:
    """A column of a file as its header, or its first rows, show it. `shape` is that of one value or time step."""

    name: str
    shape: tuple[int, ...]
    kind: ColumnKind


@dataclass(frozen=True)
class PlannedModality:
    """One modality before its values were read. `column` is where the file has it."""

    name: str
    column: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"]
    categories: int | None
    integral: bool
    """Whether the column holds whole numbers by its type."""
    text: bool = False
    """Whether the column holds the categories' names."""
    category_names: CategoryNames | None = None
    """As declared, or as the numbers of the file are."""
    units: str | None = None
    likelihood: LikelihoodName | None = None


@dataclass(frozen=True)
class Layout:
    """All modalities of a file, sorted by name; `rows` is None where only reading it all can tell."""

    kind: Kind
    rows: int | None
    modalities: tuple[PlannedModality, ...]
    warnings: tuple[DataWarning, ...] = ()


def settle(kind: Kind, rows: int | None, columns: Sequence[Column], declaration: Declaration) -> Layout:
    """Make modalities of the columns that have no other role.

    Raises BadInput with everything that does not fit: names, columns that are declared and not there, wrong types.
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
        faults.append(Fault("", "no_modality", "the file has no column that could be a modality"))
    if faults:
        raise BadInput(faults[:MOST_FAULTS])
    return Layout(kind, rows, tuple(sorted(planned, key=lambda modality: modality.name)))


def _unfit_name(name: str, declaration: Declaration) -> Fault | None:
    """Why a column of which nothing was declared cannot be a modality by its own name."""
    if not re.fullmatch(NAME_PATTERN, name):
        short = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:100].strip("_-") or "x"
        example = json.dumps({short: {"column": name[:100] if name.isprintable() else "…"}}, ensure_ascii=False)
        detail = (
            f"column name {name[:100]!r} does not match {NAME_PATTERN}, as a modality's must; name it with "
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
        detail = f"{column.name!r} is {column.kind} of shape {column.shape}, expected one category a value"
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
        detail = f"{column.name!r} is text of shape {column.shape}, expected numbers, or one category's name a value"
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
