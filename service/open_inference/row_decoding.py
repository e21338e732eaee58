"""Tensors of a request become Rows: an input that is left out is a missing modality."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.config import ModalityConfig
from service.inference.modality_values import FLOAT32_RANGE, Array, expected_category, shown, takes_booleans
from service.inference.queries import Config
from service.inference.row_decoding import MAX_FAULTS
from service.inference.rows import RowLimits, Rows
from service.open_inference.tensor_decoding import MASK, bad, decode_arrays
from service.shared.errors import BadInput, Fault, pointer


def decode_rows(head: Mapping[str, Any], binary: memoryview, config: Config, limits: RowLimits) -> Rows:
    """The rows of a request, as many steps wide as its tensors. Raises BadInput with the place."""
    arrays = decode_arrays(head.get("inputs"), binary, config, limits)
    sequences = config.kind == "sequence"
    values = {name: array for name, (_, array) in arrays.items() if not name.startswith(MASK)}
    if not values:
        expected = sorted(modality.name for modality in config.modalities)
        raise BadInput([Fault("/inputs", "no_modality", f"no modality among the inputs, expected some of {expected}")])
    first = next(iter(values))
    lead = values[first].shape[: 2 if sequences else 1]
    for name, (place, array) in arrays.items():
        if 0 in lead or array.shape[: len(lead)] != lead[: array.ndim]:
            what = "rows and steps" if sequences else "rows"
            detail = f"input {name!r} has shape {list(array.shape)}, {first!r} has {list(lead)} {what}; at least one"
            raise bad(place, "shape", "bad_shape", detail)
    limits.check_steps(lead[0], lead[1] if sequences else 1)
    present = {name: _present(arrays.get(MASK + name), name, lead) for name in values}
    modalities = {modality.name: modality for modality in config.modalities}
    for name, array in values.items():
        values[name] = _checked(array, modalities[name], present[name], arrays[name][0])
    somewhere = np.logical_or.reduce(list(present.values()))
    has_modality = somewhere.any(axis=1) if sequences else somewhere
    if not has_modality.all():
        row = int((~has_modality).argmax())
        raise BadInput([Fault("/inputs", "empty_row", f"row {row} has no modality at all, expected at least one")])
    lengths = lead[1] - somewhere[:, ::-1].argmax(axis=1) if sequences else None
    return Rows(lead[0], values, present, lengths)


def without_trailing_padding(rows: Rows) -> Rows:
    """The rows without the steps after the end of the longest, so that requests with more padding share a batch."""
    if rows.lengths is None:
        return rows
    longest = int(rows.lengths.max())
    values = {name: array[:, :longest] for name, array in rows.values.items()}
    return Rows(rows.count, values, {name: mask[:, :longest] for name, mask in rows.present.items()}, rows.lengths)


def _present(mask: tuple[int, Array] | None, name: str, lead: tuple[int, ...]) -> Array:
    """Where a modality is present: (B,) or (B, T). The mask of sequences may be one value per row, (B,)."""
    if mask is None:
        return np.ones(lead, dtype=bool)
    place, array = mask
    if array.dtype.kind != "b":
        raise bad(place, "datatype", "bad_datatype", f"{MASK}{name} has type {array.dtype}, expected BOOL")
    if array.ndim < len(lead):
        return np.repeat(array[:, None], lead[1], axis=1)
    return array


def _checked(array: Array, modality: ModalityConfig, present: Array, place: int) -> Array:
    """Values in the types of the model. Raises BadInput with the first present values that are not valid."""
    wants = "iuf" if modality.categories is None else "iuO" if modality.category_names else "iu"
    if array.dtype.kind == "b" and takes_booleans(modality):
        array = array.astype(np.uint8)
    if array.dtype.kind not in wants:
        expected = {"iuf": "a type of numbers", "iu": "an integer type", "iuO": "an integer type, or BYTES"}[wants]
        detail = f"input {modality.name!r} has values of type {array.dtype}, expected {expected}"
        raise bad(place, "datatype", "bad_datatype", detail)
    if modality.categories is not None:
        converted = _numbers(array, modality)
        wrong = (converted < 0) | (converted >= modality.categories)
        expected = expected_category(modality)
    else:
        with np.errstate(over="ignore"):
            converted = array.astype(np.float32, copy=False)
        wrong = ~np.isfinite(converted)
        expected = "finite numbers"
        if not modality.support.is_everything:
            with np.errstate(invalid="ignore"):  # infinite numbers are outside
                wrong, expected = wrong | ~modality.support.contains(converted), str(modality.support)
    if wrong.any():
        wrong &= present.reshape(*present.shape, *[1] * (wrong.ndim - present.ndim))
        if faults := np.argwhere(wrong)[:MAX_FAULTS].tolist():
            if expected == "finite numbers" and np.isfinite(array[tuple(faults[0])]):
                expected = FLOAT32_RANGE
            where = [
                f"input {modality.name!r} has {_shown(array[tuple(at)])} at {at}, expected {expected}" for at in faults
            ]
            raise BadInput([Fault(pointer("inputs", place, "data"), "bad_value", detail) for detail in where])
    return converted


def _numbers(array: Array, modality: ModalityConfig) -> Array:
    """The numbers of categories that are given by name or number; -1 for an unknown name."""
    names: Mapping[Any, int] = modality.category_numbers
    if array.dtype.kind == "O":
        names = {str(name): number for name, number in names.items()}
    elif not modality.category_names or isinstance(modality.category_names[0], str):
        return array.astype(np.int64, copy=False)
    different, places = np.unique(array, return_inverse=True)
    numbers = np.array([names.get(value, -1) for value in different.tolist()], np.int64)
    indices: Array = numbers[places.reshape(array.shape)]
    return indices


def _shown(value: Any) -> str:
    return shown(value) if isinstance(value, str) else str(value)
