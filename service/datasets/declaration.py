"""What a caller declares about a dataset. Everything has defaults that follow from the file."""

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from models.config import LikelihoodName
from models.config.likelihood import Dtype, find
from service.shared.resource_names import ColumnName, Name

MAX_COLUMNS = 1000  # per file
MAX_CATEGORIES = 100_000
MAX_CATEGORY_CHARACTERS = 200

Kind = Literal["static", "sequence"]
Extent = Annotated[int, Field(ge=1, le=2**24)]


def _category_names(value: Any) -> tuple[int | str, ...]:
    names = tuple(value) if isinstance(value, list | tuple) else ()
    kinds = {type(name) for name in names}
    if kinds not in ({int}, {str}) or len(names) > MAX_CATEGORIES:
        raise ValueError(f"expected a list of up to {MAX_CATEGORIES} names, all of them texts or all whole numbers")
    if any(isinstance(name, str) and len(name) > MAX_CATEGORY_CHARACTERS for name in names):
        raise ValueError(f"a name is longer than {MAX_CATEGORY_CHARACTERS} letters, expected a shorter one")
    if len({*names}) < len(names):
        raise ValueError("a name occurs twice, expected one per category")
    return names


CategoryNames = Annotated[tuple[int | str, ...], BeforeValidator(_category_names)]


class SplitColumn(BaseModel):
    """A column has the split of each row: training (or train), validation (or valid, val) or test; or 0, 1, 2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: ColumnName = Field(description="Name of the column.")


class SplitFractions(BaseModel):
    """Rows are held out at random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: float = Field(default=0.1, ge=0, lt=1, description="Fraction of the rows for validation, 0 to below 1.")
    test: float = Field(default=0.0, ge=0, lt=1, description="Fraction of the rows for tests, 0 to below 1.")
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="Seed of the choice.")

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test add up to {self.validation + self.test}, expected less than 1")
        return self


def _kind_of_split(split: Any) -> str:
    """The kind of split, so that faults refer to that kind only."""
    if isinstance(split, BaseModel):
        return type(split).__name__
    return "SplitColumn" if isinstance(split, dict) and "column" in split else "SplitFractions"


Split = Annotated[
    Annotated[SplitColumn, Tag("SplitColumn")] | Annotated[SplitFractions, Tag("SplitFractions")],
    Discriminator(_kind_of_split),
]


class DeclaredModality(BaseModel):
    """What the caller declares about a modality that the file does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: ColumnName | None = Field(default=None, description="The column of the file, if its name differs.")
    dtype: Literal["float32", "int64"] | None = Field(
        default=None,
        description="float32 for numbers, int64 for categories. By default texts are categories, and so are whole "
        "numbers without a shape that have few different values.",
    )
    shape: Annotated[tuple[Extent, ...], Field(max_length=6)] | None = Field(
        default=None, description="Shape of one value; the values of the file must have it."
    )
    categories: Annotated[int, Field(ge=2, le=MAX_CATEGORIES)] | None = Field(
        default=None, description="Number of categories, counted from 0; by default the values that occur."
    )
    category_names: CategoryNames | None = Field(
        default=None,
        description="The names of the categories, by their number: texts of the column, or texts for "
        "the numbers that it holds; or the whole numbers that it holds.",
    )
    units: Annotated[str, Field(max_length=40)] | None = Field(default=None, description="Shown, not used.")
    likelihood: LikelihoodName | None = Field(
        default=None, description="The density of its values in a model; by default chosen by its type and values."
    )

    @property
    def is_category(self) -> bool:
        """Whether categories are declared, by number, names, dtype or likelihood."""
        counted = self.categories is not None or self.category_names is not None
        return counted or "int64" in (self.dtype, self.dtype_of_likelihood)

    @property
    def dtype_of_likelihood(self) -> Dtype | None:
        """The dtype of the declared likelihood, None without one."""
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
            reason = "categories are given" if self.categories is not None else "dtype is int64"
            raise ValueError(f"likelihood {self.likelihood} is for float32, and {reason}; leave out one of them")
        return self


class Declaration(BaseModel):
    """What the caller declares about the data. The defaults follow from the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = Field(
        default=None,
        description="sequence: values have a time axis. By default it follows from the file: lengths, times, or "
        "nested lists of different lengths make sequences.",
    )
    modalities: dict[Name, DeclaredModality] = Field(
        default={},
        max_length=MAX_COLUMNS,
        description="By name, which is that of the column unless `column` is given. All other columns are "
        "modalities too.",
    )
    nan: Literal["refuse", "missing"] = Field(
        default="refuse", description="missing: a value or time step with a NaN is absent."
    )
    split: Split | None = Field(default=None, description="Which rows are held out: by a column, or by fractions.")
    ids: ColumnName | None = Field(
        default=None, description="The column with the ids of the rows. It is not a modality."
    )
    labels: ColumnName | None = Field(
        default=None, description="The column with labels of the rows. It is not a modality."
    )
    ignore: Annotated[list[ColumnName], Field(max_length=MAX_COLUMNS)] = Field(
        default=[], description="Columns to ignore."
    )
    step_seconds: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="For sequences with times (`NAME.time`, in seconds): the length of the time steps that readings "
        "are assigned to. A step without a reading is absent.",
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
        """The columns of ids, labels and split, by role."""
        split = self.split.column if isinstance(self.split, SplitColumn) else None
        roles = {"ids": self.ids, "labels": self.labels, "split": split}
        return {role: column for role, column in roles.items() if column is not None}

    def left_out(self) -> set[str]:
        """The columns that are not modalities."""
        return {*self.ignore, *self.role_columns().values()}

    def names(self) -> dict[str, str]:
        """The declared modalities, by their column in the file."""
        return {self.column_of(name): name for name in self.modalities}

    def column_of(self, modality: str) -> str:
        """The column of a modality in the file."""
        declared = self.modalities.get(modality)
        return modality if declared is None or declared.column is None else declared.column
