"""Tensors of a request become rows: an input that is left out is a modality that is missing."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.config import ModalityConfig
from models.config.modality import COUNTS
from service.inference.payload import MOST_FAULTS, Array, Config, Limits, Rows, check_size, shown
from service.open_inference.datatypes import DTYPES
from service.shared.errors import BadInput, Fault, pointer

MASK = "mask."
MOST_DIMENSIONS = 16


def read_rows(head: Mapping[str, Any], binary: memoryview, config: Config, limits: Limits) -> Rows:
    """The rows that a request is about. Raises BadInput with the place."""
    arrays = _arrays(head.get("inputs"), binary, config, limits)
    sequences = config.kind == "sequence"
    values = {name: array for name, (_, array) in arrays.items() if not name.startswith(MASK)}
    if not values:
        expected = sorted(modality.name for modality in config.modalities)
        raise BadInput([Fault("/inputs", "no_modality", f"no modality among the inputs, expected some of {expected}")])
    first = next(iter(values))
    lead = values[first].shape[: 2 if sequences else 1]
    present = {}
    for name, (place, array) in arrays.items():
        if array.shape[: len(lead)] != lead or 0 in lead:
            what = "rows and steps" if sequences else "rows"
            detail = f"input {name!r} has shape {list(array.shape)}, {first!r} has {list(lead)} {what}; at least one"
            raise _bad(place, "shape", "bad_shape", detail)
        if name in values:
            mask = arrays.get(MASK + name)
            present[name] = np.ones(lead, dtype=bool) if mask is None else mask[1]
    modalities = {modality.name: modality for modality in config.modalities}
    for name, array in values.items():
        values[name] = _checked(array, modalities[name], present[name], arrays[name][0])
    somewhere = np.logical_or.reduce(list(present.values()))
    given = somewhere.any(axis=1) if sequences else somewhere
    if not given.all():
        row = int((~given).argmax())
        raise BadInput([Fault("/inputs", "empty_row", f"row {row} has no modality at all, expected at least one")])
    lengths = None
    if sequences:
        lengths = lead[1] - somewhere[:, ::-1].argmax(axis=1)
        check_size(lead[0], lead[1], limits)
    return Rows(lead[0], values, present, lengths)


def _arrays(inputs: Any, binary: memoryview, config: Config, limits: Limits) -> dict[str, tuple[int, Array]]:
    """Every input by its name, with its place in the request, as what it is said to be."""
    if not isinstance(inputs, list) or not inputs:
        raise BadInput([Fault("/inputs", "no_inputs", f"inputs is {shown(inputs)}, expected a list of tensors")])
    known = {modality.name: modality for modality in config.modalities}
    arrays: dict[str, tuple[int, Array]] = {}
    start = 0
    for place, tensor in enumerate(inputs):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str) or name.removeprefix(MASK) not in known:
            expected = sorted([*known, *(MASK + modality for modality in known)])
            raise _bad(place, "name", "unknown_input", f"input {shown(name)}, expected some of {expected}")
        if name in arrays:
            raise _bad(place, "name", "duplicate_input", f"input {name!r} stands there twice")
        lead = 1 if config.kind == "static" else 2
        shape = _shape(place, tensor, name, known[name.removeprefix(MASK)], lead, limits)
        dtype = DTYPES.get(tensor.get("datatype"))
        if dtype is None:
            detail = f"input {name!r} has datatype {shown(tensor.get('datatype'))}, expected one of {', '.join(DTYPES)}"
            raise _bad(place, "datatype", "unknown_datatype", detail)
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            arrays[name] = place, _from_json(place, name, tensor.get("data"), dtype, shape)
            continue
        needed = math.prod(shape) * dtype.itemsize
        if type(size) is not int or size != needed:
            detail = f"input {name!r} has {shown(size)} bytes, shape and datatype make {needed}"
            raise _bad(place, "parameters", "bad_binary_size", detail)
        if start + size > len(binary):
            detail = f"input {name!r} ends at byte {start + size} behind the head, the body has {len(binary)} there"
            raise _bad(place, "parameters", "bad_binary_size", detail)
        arrays[name] = place, np.frombuffer(binary[start : start + size], dtype).reshape(shape)
        start += size
    if start != len(binary):
        detail = f"{len(binary)} bytes behind the head, the inputs' binary_data_size make {start}"
        raise BadInput([Fault("/inputs", "bad_binary_size", detail)])
    if alone := [name for name in arrays if name.startswith(MASK) and name.removeprefix(MASK) not in arrays]:
        place = arrays[alone[0]][0]
        raise _bad(place, "name", "mask_alone", f"input {alone[0]!r} is about a modality that is not among the inputs")
    return arrays


def _shape(
    place: int, tensor: Mapping[str, Any], name: str, modality: ModalityConfig, lead: int, limits: Limits
) -> list[int]:
    """What an input says that it is like, as it must be. Nothing was allocated yet."""
    shape = tensor.get("shape")
    whole = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    item = [] if name.startswith(MASK) else list(modality.shape)
    if whole and isinstance(shape, list):
        if len(shape) == lead + 1 and not item and shape[-1] == 1:  # as those write it who know no scalars
            shape = shape[:-1]
        if len(shape) == lead + len(item) and shape[lead:] == item:
            if shape[0] > limits.rows:
                detail = f"input {name!r} has {shape[0]} rows, expected at most {limits.rows}"
                raise _bad(place, "shape", "too_many_rows", detail)
            return shape
    expected = [-1] * lead + item
    raise _bad(place, "shape", "bad_shape", f"input {name!r} has shape {shown(shape)}, expected {expected}")


def _from_json(place: int, name: str, data: Any, dtype: "np.dtype[Any]", shape: list[int]) -> Array:
    try:
        array = np.array(data)
    except ValueError:
        array = np.array(None)
    kinds = {"b": "b", "f": "iuf"}.get(dtype.kind, "iu")
    if array.dtype.kind not in kinds or array.size != math.prod(shape):
        detail = f"input {name!r} has data {shown(data)}, expected {math.prod(shape)} values of its datatype"
        raise _bad(place, "data", "bad_data", detail)
    if kinds == "iu":
        held = np.iinfo(dtype)
        if array.size and (array.min() < held.min or array.max() > held.max):
            raise _bad(place, "data", "bad_data", f"input {name!r} has values that its datatype does not hold")
    with np.errstate(over="ignore"):  # what is too large is told of with all that is not finite
        return array.astype(dtype).reshape(shape)


def _checked(array: Array, modality: ModalityConfig, present: Array, place: int) -> Array:
    """Values as the model takes them, where they are present. Raises BadInput with the first that it does not."""
    if present.dtype.kind != "b":
        detail = f"{MASK}{modality.name} has type {present.dtype}, expected BOOL"
        raise _bad(place, "datatype", "bad_datatype", detail)
    wants = "iu" if modality.categories is not None else "iuf"
    if array.dtype.kind not in wants:
        expected = "an integer type" if modality.categories is not None else "a type of numbers"
        detail = f"input {modality.name!r} has values of type {array.dtype}, expected {expected}"
        raise _bad(place, "datatype", "bad_datatype", detail)
    if modality.categories is not None:
        bad = (array < 0) | (array >= modality.categories)
        expected = f"a category from 0 to {modality.categories - 1}"
        converted = array.astype(np.int64, copy=False)
    else:
        with np.errstate(over="ignore"):
            converted = array.astype(np.float32, copy=False)
        bad, expected = ~np.isfinite(converted), "numbers that are finite in 32 bits"
        if modality.likelihood in COUNTS:
            bad, expected = bad | (array < 0), "counts, numbers from 0 on"
    if bad.any():
        bad &= present.reshape(*present.shape, *[1] * (bad.ndim - present.ndim))
        if faults := np.argwhere(bad)[:MOST_FAULTS].tolist():
            where = [f"input {modality.name!r} has {array[tuple(at)]} at {at}, expected {expected}" for at in faults]
            raise BadInput([Fault(pointer("inputs", place, "data"), "bad_value", detail) for detail in where])
    return converted


def _bad(place: int, field: str, code: str, detail: str) -> BadInput:
    return BadInput([Fault(pointer("inputs", place, field), code, detail)])
