"""One column of JSON lines: checks its types strictly, and makes Arrow arrays of its values.

Arrow alone would take `true` among floats as 1, so the types are checked here.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from service.datasets.layout import ColumnKind
from service.shared.errors import BadInput, Fault, pointer
from worker.ingest.nested import MAX_AXES
from worker.ingest.nested_survey import Form

KINDS: dict[type, ColumnKind] = {float: "float", int: "integer", bool: "boolean", str: "text"}
TYPES = {"float": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "text": pa.string()}
WORDS = {"float": "a number", "integer": "a number", "boolean": "true or false", "text": "text"}
MAX_INTEGER = 2**63


class _Odd(Exception):
    """A value that does not fit its column: what came, and what was expected."""


class JsonColumn:
    """The type of one column, as far as rows were seen: the depth of its lists, and the kind of its values."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._axes = 0
        self._kind: ColumnKind | None = None

    def see(self, values: Sequence[Any], first_row: int) -> None:
        """Look at some more rows. Raises BadInput with the place of the first value that does not fit."""
        try:
            self._axes, self._kind = self._seen(values)
        except _Odd as odd:
            if len(values) == 1:
                detail = f"column {self._name!r} is {odd} at row {first_row}"
                raise BadInput([Fault(pointer(self._name, first_row), "mixed_types", detail)]) from odd
            for row, value in enumerate(values, first_row):
                self.see([value], row)

    def form(self) -> Form | None:
        """The form of the column; None if no row has a value."""
        return None if self._kind is None else Form((None,) * self._axes, self._kind)

    def array(self, values: Sequence[Any]) -> pa.Array:
        """The values of rows that `see` has accepted, as an Arrow array."""
        type = TYPES[self._kind or "float"]
        for _ in range(self._axes):
            type = pa.list_(type)
        try:
            return pa.array(values, type)
        except pa.ArrowInvalid:  # whole numbers among floats that float64 does not hold exactly: round them
            return pa.array(_rounded(values), type)

    def _seen(self, values: Sequence[Any]) -> tuple[int, ColumnKind | None]:
        axes, leaves, types = _flattened(values)
        if not types:
            if self._kind is not None and axes > self._axes:
                raise _Odd(f"{_description(axes, None)}, expected {_description(self._axes, self._kind)} as before")
            return max(axes, self._axes), self._kind
        if unknown := types - {*KINDS}:
            raise _Odd(
                f"{'an object' if dict in unknown else 'a list beside something else'}, expected one type of value"
            )
        kinds = {KINDS[type] for type in types}
        kind: ColumnKind = "float" if kinds == {"float", "integer"} else next(iter(kinds))
        if len({WORDS[kind] for kind in kinds}) > 1:
            raise _Odd("of several types, expected one")
        before = self._kind or kind
        if (self._axes != axes and (self._kind or self._axes > axes)) or WORDS[kind] != WORDS[before]:
            raise _Odd(f"{_description(axes, kind)}, expected {_description(self._axes, before)} as before")
        if int in types:
            whole = [leaf for leaf in leaves if type(leaf) is int]
            if max(whole) >= MAX_INTEGER or min(whole) < -MAX_INTEGER:
                raise _Odd("a whole number of more than 64 bits, expected a smaller one")
        if kind == "text":
            _refuse_halves(leaves)
        return axes, kind if before == kind else "float"


def texts_of(name: str, values: Sequence[Any], first_row: int) -> list[str | None]:
    """One text per row; numbers become decimal text, empty text becomes None. Raises BadInput for lists and objects."""
    for row, value in enumerate(values, first_row):
        try:
            if isinstance(value, (list, dict)):
                raise _Odd(f"{'a list' if isinstance(value, list) else 'an object'}, expected one text or number")
            _refuse_halves([value])
        except _Odd as odd:
            raise BadInput([Fault(pointer(name, row), "not_a_text", f"column {name!r} is {odd} at row {row}")]) from odd
    return [None if value is None else str(value) or None for value in values]


def _flattened(values: Sequence[Any]) -> tuple[int, Sequence[Any], set[type]]:
    """The depth of the lists, the items of the innermost lists, and the types of these items without null."""
    axes = 0
    while (types := {*map(type, values)} - {type(None)}) == {list}:
        if axes == MAX_AXES:
            raise _Odd(f"nested more than {MAX_AXES} lists deep, expected at most {MAX_AXES}")
        axes += 1
        values = list(chain.from_iterable(value for value in values if value))
    return axes, values, types


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return None if value is None else float(value)


def _refuse_halves(leaves: Sequence[Any]) -> None:
    r"""Raise _Odd for half a surrogate pair: JSON can write "\ud800", which is not Unicode text."""
    try:
        for leaf in leaves:
            if type(leaf) is str:
                leaf.encode()
    except UnicodeEncodeError as error:
        raise _Odd("text with half a surrogate pair, expected Unicode") from error


def _description(axes: int, kind: ColumnKind | None) -> str:
    return "lists of " * axes + (WORDS[kind] if kind else "nothing")
