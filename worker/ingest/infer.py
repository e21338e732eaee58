"""Infers undeclared columns from their values: few different values are categories, many are numbers.

Every inference is reported in the warnings of the version, with the declaration that overrides it.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from models.config.wording import shown
from service.datasets.declaration import MAX_CATEGORIES, Declaration
from service.datasets.exported_schema import SPLIT
from service.datasets.layout import DataWarning, Layout, PlannedModality
from service.shared.errors import BadInput, Fault, pointer
from worker.ingest.numbers import Numbers

FEW = 20
"""At most so many different whole numbers are categories."""
EXACT = 2**24
"""float32 holds whole numbers up to this size exactly."""
MAX_SHOWN = 8
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?([T ]\d\d?:\d\d(:\d\d([.,]\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?)?")


@dataclass(frozen=True)
class Words:
    """The different texts of a column, and the number of its values."""

    different: Collection[str]
    count: int


class _Read(NamedTuple):
    """How a column is read; a modality of None means that it is left out."""

    modality: PlannedModality | None
    warnings: list[DataWarning]


def undecided(layout: Layout) -> list[PlannedModality]:
    """The modalities of whole numbers, or of undeclared categories: their values decide how they are read."""
    return [
        modality
        for modality in layout.modalities
        if modality.dtype == "int64" and not (modality.text or modality.categories or modality.category_names)
    ]


def without_dates(declaration: Declaration, columns: Collection[str]) -> tuple[Declaration, list[DataWarning]]:
    """The declaration with the columns of date type ignored, and a warning about each: dates are no modality."""
    warnings = [
        DataWarning("looks_like_dates", f"column {column!r} holds dates and was left out; {_dates(column)}", column)
        for column in columns
    ]
    return declaration.model_copy(update={"ignore": [*declaration.ignore, *columns]}), warnings


def completed(
    layout: Layout, declaration: Declaration, numbers: Mapping[str, Numbers], words: Mapping[str, Words]
) -> Layout:
    """The layout with every undecided modality decided. numbers, words: by column.

    Raises BadInput when nothing is left that could be a modality, and for too many categories.
    """
    open_ = {modality.name for modality in undecided(layout)}
    kept, warnings = [], list(layout.warnings)
    for modality in layout.modalities:
        read = _Read(modality, [])
        if modality.name in open_:
            read = _of_numbers(modality, numbers[modality.column], layout, declaration)
        elif modality.text:
            read = _of_words(modality, words[modality.column], layout, declaration)
        kept += [read.modality] if read.modality else []
        warnings += read.warnings
    if not kept:
        raise BadInput([Fault(pointer(w.column or ""), w.code, w.detail) for w in warnings if w.column])
    return replace(layout, modalities=tuple(kept), warnings=tuple(warnings))


def floats(layout: Layout, declaration: Declaration) -> dict[str, Numbers]:
    """New `Numbers` by name, for floats that may be categories: pandas makes floats of integers and null."""
    declared = declaration.modalities
    return {
        modality.name: Numbers()
        for modality in layout.modalities
        if modality.dtype == "float32" and not (modality.shape or modality.integral or modality.likelihood)
        if modality.name not in declared or declared[modality.name].dtype is None
    }


def constants(layout: Layout, declaration: Declaration, figures: Mapping[str, Mapping[str, Any]]) -> list[DataWarning]:
    """Warnings about modalities whose values are all equal. figures: the statistics of each modality."""
    warnings = []
    for modality in layout.modalities:
        seen = figures[modality.name]
        undeclared = modality.name not in declaration.modalities and modality.dtype == "float32"
        if undeclared and seen["present"] > 1 and seen["minimum"] == seen["maximum"]:
            detail = f"holds no other number than {seen['minimum']:g}, from which a model learns nothing; ignore it"
            warnings.append(_warned(modality, "constant", detail))
    return warnings


def doubts(layout: Layout, seen: Mapping[str, Numbers]) -> list[DataWarning]:
    """Warnings about floats that are few different whole numbers."""
    warnings = []
    for modality in layout.modalities:
        numbers = seen.get(modality.name)
        if (
            numbers
            and numbers.whole
            and numbers.distinct is not None
            and 1 < len(numbers.distinct) <= min(FEW, numbers.count / 2)
        ):
            detail = (
                f"holds floats, which were read as numbers, and only {len(numbers.distinct)} different whole ones; "
            )
            detail += f"declare modalities: {_as(modality, 'int64')} where they are categories"
            warnings.append(_warned(modality, "perhaps_categories", detail))
    return warnings


def _of_numbers(modality: PlannedModality, seen: Numbers, layout: Layout, declaration: Declaration) -> _Read:
    declared = declaration.modalities.get(modality.name)
    if declared is not None and declared.is_category:
        return _Read(_categories(modality, seen), [])
    if not seen.count:  # the conversion refuses a modality without values
        return _Read(modality, [])
    if seen.distinct is not None and len(seen.distinct) == 1:
        keep = declared is not None or seen.count == 1  # a single value does not make a constant
        return _Read(_number(modality), []) if keep else _constant(modality, seen.distinct.tolist()[0])
    if seen.distinct is not None and len(seen.distinct) <= FEW:
        warnings = [_warned(modality, "inferred_categories", _few(seen))]
        return _Read(_categories(modality, seen), warnings + _perhaps_split(modality, map(str, seen.distinct.tolist())))
    if layout.kind == "static" and seen.are_consecutive and declared is None:
        detail = f"counts the rows and was left out; {_ids(modality.column)}, or modalities: {_as(modality, 'float32')}"
        return _Read(None, [_warned(modality, "looks_like_ids", detail)])
    warnings = [_warned(modality, "inferred_numbers", _many(modality, seen))]
    if layout.kind == "static" and seen.all_differ:
        detail = f"has another value in every row; if it names them, {_ids(modality.column)}"
        warnings.append(_warned(modality, "looks_like_ids", detail))
    if seen.largest > EXACT:
        detail = f"has whole numbers up to {seen.largest:.0f}, of which float32 keeps those up to {EXACT} exactly"
        warnings.append(_warned(modality, "inexact", f"{detail}; take differences, or a larger unit"))
    return _Read(_number(modality), warnings)


def _of_words(modality: PlannedModality, seen: Words, layout: Layout, declaration: Declaration) -> _Read:
    count, many = len(seen.different), len(seen.different) > FEW
    if modality.name in declaration.modalities or not count:
        return _Read(modality, [])
    if count == 1:
        return _constant(modality, next(iter(seen.different)))
    if all(map(_DATE.fullmatch, seen.different)):
        wanted = _dates(modality.column)
        if many:
            detail = f"holds {count} different dates and was left out; {wanted}"
            return _Read(None, [_warned(modality, "looks_like_dates", detail)])
        detail = f"holds {count} different dates, which were read as categories; {wanted}"
        return _Read(modality, [_warned(modality, "looks_like_dates", detail)])
    if many and layout.kind == "static" and count == seen.count:
        detail = f"has another text in every row and was left out; {_ids(modality.column)}, or modalities: "
        return _Read(None, [_warned(modality, "looks_like_ids", detail + _as(modality, "int64") + " for categories")])
    if many and count > seen.count / 2:
        detail = (
            f"has {count} different texts in {seen.count} values: few of these categories can be learned; ignore it"
        )
        return _Read(modality, [_warned(modality, "many_categories", f"{detail}, or {_ids(modality.column)}")])
    return _Read(modality, _perhaps_split(modality, seen.different))


def _constant(modality: PlannedModality, value: int | str) -> _Read:
    """Leave out a column of one value: a model learns nothing from it, and categories need at least two."""
    detail = f"holds no other value than {shown(value)} and was left out; to keep it, declare modalities: "
    dtype = "int64" if modality.text else "float32"
    return _Read(None, [_warned(modality, "constant", detail + _as(modality, dtype))])


def _perhaps_split(modality: PlannedModality, different: Iterable[str]) -> list[DataWarning]:
    """Warnings about a column `split` of the numbers 0 to 2: it may name splits, or be data."""
    if modality.column != SPLIT or not {*different} <= {"0", "1", "2"}:
        return []
    detail = 'may say which rows are held out (0 training, 1 validation, 2 test); then declare "split": '
    return [_warned(modality, "perhaps_split", detail + '{"column": "split"}')]


def _categories(modality: PlannedModality, seen: Numbers) -> PlannedModality:
    """Categories of the values that occur, which are their names unless they count from 0."""
    if seen.distinct is None:
        detail = f"{modality.column!r} holds more than {MAX_CATEGORIES} different numbers, expected at most as many "
        detail += "categories; leave out dtype and likelihood to read it as numbers"
        raise BadInput([Fault(pointer(modality.column), "too_many_categories", detail)])
    values = tuple(int(value) for value in seen.distinct) if seen.whole else ()
    if values == tuple(range(len(values))):  # also with no values: the conversion reports bad values with their place
        return modality
    return replace(modality, categories=max(2, len(values)), category_names=values)


def _number(modality: PlannedModality) -> PlannedModality:
    return replace(modality, dtype="float32")


def _few(seen: Numbers) -> str:
    values = [] if seen.distinct is None else seen.distinct.tolist()
    shown = ", ".join(map(str, values[:MAX_SHOWN])) + (", …" if len(values) > MAX_SHOWN else "")
    detail = f"holds {len(values)} different whole numbers ({shown}), which were read as categories"
    return f"{detail}; declare dtype float32 where they are numbers, or categories where there are more"


def _many(modality: PlannedModality, seen: Numbers) -> str:
    count = f"more than {MAX_CATEGORIES}" if seen.distinct is None else str(len(seen.distinct))
    detail = f"holds {count} different whole numbers, more than {FEW}, which were read as numbers"
    return f"{detail}; declare modalities: {_as(modality, 'int64')} where they are categories"


def _dates(column: str) -> str:
    return f"turn them into numbers, such as days since the first one, to model them; {_ids(column)}, or ignore it"


def _ids(column: str) -> str:
    return f'declare "ids": "{column}"'


def _as(modality: PlannedModality, dtype: str) -> str:
    return f'{{"{modality.name}": {{"dtype": "{dtype}"}}}}'


def _warned(modality: PlannedModality, code: str, detail: str) -> DataWarning:
    return DataWarning(code, f"column {modality.column!r} {detail}", modality.column)
