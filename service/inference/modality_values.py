"""Nested lists of one modality's values become one array, or the reason why they do not fit."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from models.config import ModalityConfig

Array = np.ndarray[Any, np.dtype[Any]]

MAX_NAMES = 10
SHOWN_CHARACTERS = 60
# If the squares add up to less, each number is finite, as float32 too.
MAX_SQUARES = 1e76
_NO_CONTEXT = nullcontext()
NUMBERS = {int, float}
FLOAT32_RANGE = f"numbers within float32's range, at most {np.finfo(np.float32).max:.1e} in size"


class Mismatch(NamedTuple):
    """Why values do not fit a modality: what was found, and what was expected."""

    found: str
    expected: str


def to_array(items: Sequence[Any], modality: ModalityConfig) -> Array | Mismatch:
    """Values, none of them null, as one array (N, *shape)."""
    if modality.category_names:
        return _named_categories(items, modality)
    shape = list(modality.shape)
    types = types_within(items)
    if not types <= (NUMBERS | {bool} if takes_booleans(modality) else NUMBERS):
        if list in types:
            return Mismatch("lists of different lengths", f"shape {shape}")
        return Mismatch(f"value {shown(items[0])}", f"numbers of shape {shape}")
    try:
        array = np.asarray(items)
    except (ValueError, TypeError, OverflowError):
        return Mismatch("lists of different lengths", f"shape {shape}")
    if array.shape[1:] != modality.shape:
        if len(array.shape) == len(modality.shape) + 1 == 2:
            return Mismatch(f"{array.shape[1]} features", str(modality.shape[0]))
        return Mismatch(f"shape {list(array.shape[1:])}", str(shape))
    if modality.categories is not None:
        whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
        if not whole or array.min() < 0 or array.max() >= modality.categories:
            return Mismatch(f"value {shown(items[0])}", expected_category(modality))
        return array.astype(np.int64, copy=False)
    if array.dtype.kind not in "biuf":
        return Mismatch(f"value {shown(items[0])}", f"numbers of shape {shape}")
    surely_finite = is_surely_finite(array)
    original = array
    with _NO_CONTEXT if surely_finite else np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not surely_finite and not (finite := np.isfinite(array)).all():
        first = original[~finite].flat[0]
        return Mismatch(f"value {first}", FLOAT32_RANGE if np.isfinite(first) else "finite numbers")
    if not modality.support.is_everything and not (inside := modality.support.contains(array)).all():
        return Mismatch(f"value {array[~inside].flat[0]:g}", str(modality.support))
    return array


def takes_booleans(modality: ModalityConfig) -> bool:
    """Whether false and true are values of a modality: 0 and 1, if they are its lowest and highest value."""
    return modality.support.takes_booleans


def types_within(data: Sequence[Any]) -> set[type]:
    """The types of the items of nested lists.

    Checked before NumPy reads the lists: it makes every text as wide as the longest, so that a body of 400 kB took
    37 GiB.
    """
    types = set(map(type, data))
    while types == {list}:
        data = list(chain.from_iterable(data))
        types = set(map(type, data))
    return types


def _named_categories(items: Sequence[Any], modality: ModalityConfig) -> Array | Mismatch:
    """The numbers of categories. Where names are texts, a name or its number is a value; else only the name is."""
    types = set(map(type, items))
    numbers, name_type = modality.category_numbers, type(next(iter(modality.category_numbers)))
    if types <= {name_type} or (types <= NUMBERS and name_type is int):
        indices = [numbers.get(name, -1) for name in items]
    elif types <= {int, str} and name_type is str:
        indices = [numbers.get(item, -1) if type(item) is str else item for item in items]
    else:
        indices = [-1]
    highest = (modality.categories or 0) - 1
    if min(indices) < 0 or max(indices) > highest:
        return Mismatch(f"value {shown(items[0])}", expected_category(modality))
    return np.array(indices, np.int64)


def expected_category(modality: ModalityConfig) -> str:
    """The values of a categorical modality, for error messages."""
    highest, names = (modality.categories or 0) - 1, modality.category_names
    if not names:
        return f"a category from 0 to {highest}"
    some = ", ".join(shown(name) for name in names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    return f"a category, one of {some}" + (f", or its number, 0 to {highest}" if isinstance(names[0], str) else "")


def is_surely_finite(array: Array) -> bool:
    """A quick check of numbers that are almost always finite: one sum of squares. False means: look closer."""
    if array.dtype.kind != "f":
        return True
    flat = array.ravel()
    return float(np.dot(flat, flat)) < MAX_SQUARES


def shown(value: Any) -> str:
    """A value as an error message quotes it, cut off. Only the part that is quoted is formatted."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > SHOWN_CHARACTERS:
            return text[:SHOWN_CHARACTERS] + "…"
    return text


def _pieces(value: Any) -> Iterator[str]:
    """The representation of a JSON value, piece by piece."""
    match value:
        case None | bool():
            yield {None: "null", True: "true", False: "false"}[value]
        case str():
            yield repr(value[: SHOWN_CHARACTERS + 1])
        case list():
            yield "["
            for place, item in enumerate(value):
                yield ", " if place else ""
                yield from _pieces(item)
            yield "]"
        case dict():
            yield "{"
            for place, (key, item) in enumerate(value.items()):
                yield f"{', ' if place else ''}{key[: SHOWN_CHARACTERS + 1]!r}: "
                yield from _pieces(item)
            yield "}"
        case _:
            yield repr(value)
