"""Tensors of a request become arrays. Shapes, types and sizes are checked before anything is allocated."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.config import ModalityConfig
from service.inference.modality_values import Array, shown, types_within
from service.inference.queries import Config
from service.inference.rows import RowLimits
from service.open_inference.datatypes import BYTES, DTYPES, LENGTH_BYTES, unpack_texts
from service.shared.errors import BadInput, Fault, pointer

MASK = "mask."
MAX_DIMENSIONS = 16
_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}, "O": {str}}


def decode_arrays(inputs: Any, binary: memoryview, config: Config, limits: RowLimits) -> dict[str, tuple[int, Array]]:
    """Input name -> its place in the request and its array, in the datatype of the request. Raises BadInput."""
    if not isinstance(inputs, list) or not inputs:
        raise BadInput([Fault("/inputs", "no_inputs", f"inputs is {shown(inputs)}, expected a list of tensors")])
    known = {modality.name: modality for modality in config.modalities}
    arrays: dict[str, tuple[int, Array]] = {}
    start = 0
    for place, tensor in enumerate(inputs):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str) or name.removeprefix(MASK) not in known:
            expected = sorted([*known, *(MASK + modality for modality in known)])
            raise bad(place, "name", "unknown_input", f"input {shown(name)}, expected some of {expected}")
        if name in arrays:
            raise bad(place, "name", "duplicate_input", f"input {name!r} is given twice")
        shape = _shape(place, tensor, name, known[name.removeprefix(MASK)], config.kind, limits)
        datatype = tensor.get("datatype")
        dtype = DTYPES.get(datatype) if isinstance(datatype, str) else None
        takes = [*DTYPES, BYTES] if name in known and known[name].category_names else [*DTYPES]
        if datatype not in takes:
            detail = f"input {name!r} has datatype {shown(datatype)}, expected one of {', '.join(takes)}"
            raise bad(place, "datatype", "unknown_datatype", detail)
        size = _parameters(place, tensor, name).get("binary_data_size")
        if size is None:
            arrays[name] = place, _from_json(place, tensor, dtype or np.dtype(object), shape)
            continue
        needed = math.prod(shape) * (dtype.itemsize if dtype else LENGTH_BYTES)
        if type(size) is not int or (size != needed if dtype else size < needed):
            size_in_words = f"{needed}" if dtype else f"{needed} or more"
            detail = f"input {name!r} has {shown(size)} bytes, expected {size_in_words} for its shape and datatype"
            raise bad(place, "parameters", "bad_binary_size", detail)
        if start + size > len(binary):
            detail = f"input {name!r} ends at byte {start + size} after the head, where the body has {len(binary)}"
            raise bad(place, "parameters", "bad_binary_size", detail)
        piece = binary[start : start + size]
        arrays[name] = place, _from_bytes(piece, dtype, shape) if dtype else _texts(place, name, piece, shape)
        start += size
    if start != len(binary):
        detail = f"{len(binary)} bytes follow the head, expected {start}, the sum of binary_data_size"
        raise BadInput([Fault("/inputs", "bad_binary_size", detail)])
    if alone := [name for name in arrays if name.startswith(MASK) and name.removeprefix(MASK) not in arrays]:
        place = arrays[alone[0]][0]
        raise bad(
            place, "name", "mask_alone", f"input {alone[0]!r} is the mask of a modality that is not among the inputs"
        )
    return arrays


def bad(place: int, field: str, code: str, detail: str) -> BadInput:
    """An error of a field of the input at this place."""
    return BadInput([Fault(pointer("inputs", place, field), code, detail)])


def _shape(
    place: int, tensor: Mapping[str, Any], name: str, modality: ModalityConfig, kind: str, limits: RowLimits
) -> list[int]:
    """The shape of an input. Raises BadInput if the modality has another one, or there are too many rows."""
    shape = tensor.get("shape")
    lead = 1 if kind == "static" else 2
    whole = isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    item = [] if name.startswith(MASK) else list(modality.shape)
    if whole and isinstance(shape, list):
        if len(shape) == lead + 1 and not item and shape[-1] == 1:  # some clients write scalars like that
            shape = shape[:-1]
        of_whole_rows = name.startswith(MASK) and len(shape) == 1
        if of_whole_rows or (len(shape) == lead + len(item) and shape[lead:] == item):
            if shape[0] > limits.rows:
                detail = f"input {name!r} has {shape[0]} rows, expected at most {limits.rows}"
                raise bad(place, "shape", "too_many_rows", detail)
            return shape
    expected = [-1] * lead + item
    raise bad(place, "shape", "bad_shape", f"input {name!r} has shape {shown(shape)}, expected {expected}")


def _parameters(place: int, tensor: Mapping[str, Any], name: str) -> dict[str, Any]:
    parameters = tensor.get("parameters") or {}
    if not isinstance(parameters, dict):
        detail = f"input {name!r} has parameters {shown(parameters)}, expected an object"
        raise bad(place, "parameters", "not_an_object", detail)
    if any(parameter.startswith("shared_memory_") for parameter in parameters):
        detail = f"input {name!r} is in shared memory, expected it in the body"
        raise bad(place, "parameters", "no_shared_memory", detail)
    return parameters


def _from_bytes(raw: memoryview, dtype: "np.dtype[Any]", shape: list[int]) -> Array:
    if dtype.kind == "b":  # a client may send any byte, NumPy and torch expect 0 and 1
        return np.frombuffer(raw, np.uint8).reshape(shape).astype(bool)
    return np.frombuffer(raw, dtype).reshape(shape)


def _texts(place: int, name: str, raw: memoryview, shape: list[int]) -> Array:
    try:
        return unpack_texts(raw, math.prod(shape)).reshape(shape)
    except ValueError as error:
        raise bad(place, "parameters", "bad_binary_size", f"input {name!r} {error}") from error


def _from_json(place: int, tensor: Mapping[str, Any], dtype: "np.dtype[Any]", shape: list[int]) -> Array:
    """The values of `data`, a nested or a flat list."""
    name, data, count = tensor["name"], tensor.get("data"), math.prod(shape)
    array: Array = np.array(None)
    if isinstance(data, list) and types_within(data) <= _JSON_TYPES[dtype.kind]:
        try:
            array = np.array(data, dtype if dtype.kind == "O" else None)
        except ValueError:  # lists of different lengths
            array = np.array(None)
    fits = array.shape in ((count,), tuple(tensor["shape"]), tuple(shape))
    if not fits or array.dtype.kind not in {"b": "b", "f": "iuf", "O": "O"}.get(dtype.kind, "iu"):
        detail = f"input {name!r} has data {shown(data)}, expected {count} values of its datatype"
        raise bad(place, "data", "bad_data", f"{detail}, flat or nested as its shape")
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise bad(place, "data", "bad_data", f"input {name!r} has values outside the range of its datatype")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype).reshape(shape)
    if dtype.kind == "f" and (lost := np.isinf(converted) & np.isfinite(array.reshape(shape))).any():
        value = array.reshape(shape)[lost].flat[0]
        raise bad(place, "data", "bad_data", f"input {name!r} has {value}, outside the range of {tensor['datatype']}")
    return converted
