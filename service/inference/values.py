"""Many values of one modality as one array, or why they are none."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from models.config import ModalityConfig

Array = np.ndarray[Any, np.dtype[Any]]

MAX_NAMES = 10
SHOWN_CHARACTERS = 60
# Each of numbers whose squares add up to less is finite, in 32 bits too.
LARGEST_SQUARE = 1e76
_CAST = nullcontext()
NUMBERS = {int, float}
FLOAT32_RANGE = f"numbers within float32's range, at most {np.finfo(np.float32).max:.1e} in size"


def takes_booleans(modality: ModalityConfig) -> bool:
    """Whether false and true are values of a modality: 0 and 1, if they are its lowest and highest value."""
    return modality.support.takes_booleans


def types_within(data: Sequence[Any]) -> set[type]:
    """The types of what stands in nested lists.

    Looked at before NumPy does: it makes every text as wide as the longest, so that a body of 400 kB took 37 GiB.
    """
    types = set(map(type, data))
    while types == {list}:
        data = list(chain.from_iterable(data))
        types = set(map(type, data))
    return types


class Misfit(NamedTuple):
    """Why values are no value of a modality."""

    came: str
    expected: str


def array_of(given: Sequence[Any], modality: ModalityConfig) -> Array | Misfit:
    """Many values as one array, or what is wrong with them."""
    if modality.category_names:
        return _named_categories(given, modality)
    shape = list(modality.shape)
    types = types_within(given)
    if not types <= (NUMBERS | {bool} if takes_booleans(modality) else NUMBERS):
        if list in types:
            return Misfit("lists of different lengths", f"shape {shape}")
        return Misfit(f"value {shown(given[0])}", f"numbers of shape {shape}")
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, OverflowError):
        return Misfit("lists of different lengths", f"shape {shape}")
    if array.shape[1:] != modality.shape:
        if len(array.shape) == len(modality.shape) + 1 == 2:
            return Misfit(f"{array.shape[1]} features", str(modality.shape[0]))
        return Misfit(f"shape {list(array.shape[1:])}", str(shape))
    if modality.categories is not None:
        whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
        if not whole or array.min() < 0 or array.max() >= modality.categories:
            return Misfit(f"value {shown(given[0])}", expected_category(modality))
        return array.astype(np.int64, copy=False)
    if array.dtype.kind not in "biuf":
        return Misfit(f"value {shown(given[0])}", f"numbers of shape {shape}")
    surely_finite = is_surely_finite(array)
    came = array
    with _CAST if surely_finite else np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not surely_finite and not (finite := np.isfinite(array)).all():
        first = came[~finite].flat[0]
        return Misfit(f"value {first}", FLOAT32_RANGE if np.isfinite(first) else "finite numbers")
    if not modality.support.is_everything and not (inside := modality.support.contains(array)).all():
        return Misfit(f"value {array[~inside].flat[0]:g}", str(modality.support))
    return array


def _named_categories(given: Sequence[Any], modality: ModalityConfig) -> Array | Misfit:
    """The numbers of categories. Where names are texts a category is given by either, else by its name."""
    types = set(map(type, given))
    numbers, by_name = modality.category_numbers, type(next(iter(modality.category_numbers)))
    if types <= {by_name} or (types <= NUMBERS and by_name is int):
        found = [numbers.get(name, -1) for name in given]
    elif types <= {int, str} and by_name is str:
        found = [numbers.get(one, -1) if type(one) is str else one for one in given]
    else:
        found = [-1]
    highest = (modality.categories or 0) - 1
    if min(found) < 0 or max(found) > highest:
        return Misfit(f"value {shown(given[0])}", expected_category(modality))
    return np.array(found, np.int64)


def expected_category(modality: ModalityConfig) -> str:
    """What a value of categories may be, for messages."""
    highest, names = (modality.categories or 0) - 1, modality.category_names
    if not names:
        return f"a category from 0 to {highest}"
    some = ", ".join(shown(name) for name in names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    return f"a category, one of {some}" + (f", or its number, 0 to {highest}" if isinstance(names[0], str) else "")


def is_surely_finite(array: Array) -> bool:
    """A quick look at numbers of which hardly any is ever infinite: a sum of squares says it in one call."""
    if array.dtype.kind != "f":
        return True
    flat = array.ravel()
    return float(np.dot(flat, flat)) < LARGEST_SQUARE


def shown(value: Any) -> str:
    """A value as an error message quotes it: not at length, and no more of it is looked at."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > SHOWN_CHARACTERS:
            return text[:SHOWN_CHARACTERS] + "…"
    return text


def _pieces(value: Any) -> Iterator[str]:
    """The representation of JSON, piece by piece."""
    match value:
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
