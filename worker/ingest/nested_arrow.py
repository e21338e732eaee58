"""Arrow types as forms of columns, and Arrow arrays as flattened lists."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.datasets.layout import ColumnKind
from worker.ingest.block import Array
from worker.ingest.nested import Level, Nested
from worker.ingest.nested_survey import Form

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def form_of(type: Any, is_time: bool = False) -> Form | None:
    """The form of a type; None if it can be neither a modality nor, with is_time, the times of one.

    An extension type counts as its storage type, except for the fixed-shape tensor.
    """
    extents: list[int | None] = []
    has_time = not _is_tensor(type)
    while _is_list(type):
        if _is_tensor(type):
            if type.permutation not in (None, [], sorted(type.permutation or [])):
                return None
            extents += type.shape
        else:
            extents.append(type.list_size if pa.types.is_fixed_size_list(_stored(type)) else None)
        type = _stored(type).value_type
    kind = _kind_of(_stored(type), is_time)
    return None if kind is None else Form(tuple(extents), kind, has_time)


def is_text(type: Any) -> bool:
    """Whether values of a type are texts, plain or in a dictionary."""
    type = _stored(type)
    type = type.value_type if pa.types.is_dictionary(type) else type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def is_date(type: Any) -> bool:
    """Whether values of a type are days, or days with a time."""
    type = leaf_of(type)
    return bool(pa.types.is_date(type) or pa.types.is_timestamp(type))


def leaf_of(type: Any) -> Any:
    """The type of the items of the innermost lists."""
    while _is_list(type):
        type = _stored(type).value_type
    return _stored(type)


def lengths(array: Any) -> Array:
    """The length of every outermost list, 0 for null: (N,) int64."""
    found: Array = pc.list_value_length(_plain(array)).fill_null(0).to_numpy()
    return found.astype(np.int64, copy=False)


def nested_of(array: Any) -> Nested:
    """An array of nested lists, flattened. Timestamps and durations become seconds."""
    levels: list[Level] = []
    while _is_list(array.type):
        given = np.ones(len(array), bool) if not array.null_count else array.is_valid().to_numpy(zero_copy_only=False)
        tensor = array.type.shape if _is_tensor(array.type) else None
        array = _plain(array)
        if tensor is None:
            levels.append(Level(lengths(array), given))
        else:
            levels += _tensor_levels(tensor, given)
        array = array.flatten()
    array = _plain(array)
    if is_text(array.type):
        return _words(tuple(levels), array)
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    return Nested(tuple(levels), _numbers(array), valid)


def texts_of(array: Any) -> list[str | None]:
    """One text per row; numbers become decimal text, empty text becomes None."""
    array = _plain(array)
    if is_text(array.type):
        nested = _words((), array)
        words = np.array([*(word or None for word in nested.words), None], object)
        found: list[str | None] = words[np.where(nested.present(0), nested.values, -1)].tolist()
        return found
    if _kind_of(array.type, False) is None:
        array = array.cast(pa.string())
    return [None if value is None else str(value) or None for value in array.to_pylist()]


def _words(levels: tuple[Level, ...], array: Any) -> Nested:
    """Texts as indices into the different texts that occur."""
    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.large_string()).dictionary_encode()
    given = array.is_valid().to_numpy(zero_copy_only=False)
    indices = array.indices.fill_null(0).to_numpy()
    used, codes = np.unique(indices[given], return_inverse=True)
    values = np.zeros(len(array), np.int64)
    values[given] = codes
    words = array.dictionary.take(pa.array(used)).to_pylist()
    if None in words:  # a dictionary may contain null
        given = given & (np.array([word is not None for word in [*words, ""]])[values])
    return Nested(levels, values, given, tuple(word or "" for word in words))


def _numbers(array: Any) -> Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type) or pa.types.is_duration(array.type):
        counts = _filled(array.cast(pa.int64()), 0)
        return np.asarray(counts / PER_SECOND[array.type.unit], np.float64)
    if pa.types.is_boolean(array.type):
        return _filled(array, False)
    if pa.types.is_decimal(array.type):
        return _filled(array.cast(pa.float64()), 0)
    return _filled(array.cast(pa.float32()) if pa.types.is_float16(array.type) else array, 0)


def _filled(array: Any, value: float) -> Array:
    filled: Array = (array.fill_null(value) if array.null_count else array).to_numpy(zero_copy_only=False)
    return filled


def _tensor_levels(shape: list[int], given: Array) -> Iterator[Level]:
    yield Level(np.where(given, shape[0], 0).astype(np.int64), given)
    count = int(given.sum())
    for outer, extent in pairwise(shape):
        count *= outer
        yield Level(np.full(count, extent, np.int64), np.ones(count, bool))


def _kind_of(type: Any, is_time: bool) -> ColumnKind | None:
    types = pa.types
    if is_text(type):
        return "text"
    if types.is_dictionary(type):
        return _kind_of(type.value_type, is_time)
    if types.is_floating(type) or (is_time and (types.is_timestamp(type) or types.is_duration(type))):
        return "float"
    if types.is_integer(type):
        return "integer"
    if types.is_decimal(type):
        return "decimal"
    return "boolean" if types.is_boolean(type) else None


def _is_tensor(type: Any) -> bool:
    return isinstance(type, pa.FixedShapeTensorType) and len(type.shape) > 0


def _is_list(type: Any) -> bool:
    type, types = _stored(type), pa.types
    return bool(
        types.is_list(type)
        or types.is_large_list(type)
        or types.is_fixed_size_list(type)
        or types.is_list_view(type)
        or types.is_large_list_view(type)
    )


def _stored(type: Any) -> Any:
    while isinstance(type, pa.BaseExtensionType):
        type = type.storage_type
    return type


def _plain(array: Any) -> Any:
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array
