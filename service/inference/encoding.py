"""Answers become JSON: category names beside numbers, sequences without padding, large answers in parts."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from models.config import ModalityConfig
from models.config.calibrations import CALIBRATIONS
from models.config.modality import CategoryNames
from service.inference.batcher import Answered
from service.inference.modality_values import Array, is_surely_finite
from service.inference.queries import Config, Query, Tree, Version
from service.shared.errors import BadInput, Fault

LARGE_NUMBERS = 100_000
"""An answer of this many numbers takes 5 ms or more to encode, so that a thread does it."""
CHUNK_NUMBERS = 50_000
"""orjson holds the interpreter lock while it encodes one chunk."""
PART_BYTES = 1024**2
CATEGORY_NAME = "category_name"
VALUE = "value"
"""The drawn value in an answer of `sample`, the completed value in one of `impute`."""
DRAWS = "draws"
"""The joint completions in an answer of `impute`, (B, n, ...) or (B, n, T, ...)."""
VALUE_NAME, DRAWS_NAME = f"{VALUE}_name", f"{DRAWS}_name"
OF_DRAWS = (DRAWS, DRAWS_NAME)
NAMES = (CATEGORY_NAME, VALUE_NAME, DRAWS_NAME)


def body(query: Query, version: Version, answered: Answered) -> dict[str, Any]:
    """The fields of a /v1 answer that come from the model. Raises BadInput if an answer is not finite."""
    tree, lengths = answered.tree, query.rows.lengths
    match query.operation:
        case "encode":
            state = {} if answered.state is None else {"state": answered.state}
            return trimmed(tree, lengths) | state
        case "score":  # the batch may have scored modalities that only other requests have sent
            own = {name: tree["log_likelihood"][name] for name in query.rows.values}
            return trimmed({**tree, "log_likelihood": own}, lengths)
        case "reconstruct":
            return {"outputs": trimmed(with_names(tree, version.config), lengths)}
        case "impute":
            about = {"level": query.arguments["level"], "calibration": calibration_words(tree).tolist()}
            return about | {"completed": _completed(with_names(tree["completed"], version.config), lengths)}
        case "forecast" | "sample":
            return {"outputs": trimmed(with_names(tree, version.config), None)}


def with_names(tree: Tree, config: Config) -> dict[str, dict[str, Any]]:
    """Predictions with category names. Names that are numbers replace the numbers of the categories."""
    modalities = {modality.name: modality for modality in config.modalities}
    return {name: _with_names(outputs, modalities[name]) for name, outputs in tree.items()}


def calibration_words(tree: Tree) -> Array:
    """How the intervals of each row of an answer of `impute` were fitted, as texts: (B,) objects."""
    return np.array(CALIBRATIONS, object)[tree["calibration"]]


def trimmed(tree: Tree, lengths: Array | None) -> dict[str, Any]:
    """All arrays as JSON has them: (B, ...) unchanged, (B, T, ...) as a list of (T_i, ...) without the padding."""
    return {
        name: finite(value, lengths) if isinstance(value, np.ndarray) else trimmed(value, lengths)
        for name, value in tree.items()
    }


def finite(array: Array, lengths: Array | None) -> Any:
    """One array, `trimmed`. Raises BadInput if it is not finite: the input is too far from the training data."""
    if array.dtype == object:  # texts, which orjson encodes only in lists
        return array.tolist() if lengths is None else [r[:n].tolist() for r, n in zip(array, lengths, strict=True)]
    if not is_surely_finite(array):
        _check_finite(array, lengths)
    array = np.ascontiguousarray(array)  # orjson encodes no others
    if lengths is None:
        return array
    return [row[:length] for row, length in zip(array, lengths, strict=True)]


def finite_draws(array: Array, lengths: Array | None) -> Any:
    """Draws (B, n, ...), as `finite` has other arrays: of sequences a list of (n, T_i, ...)."""
    if lengths is None:
        return finite(array, None)
    if array.dtype == object:
        return [row[:, :length].tolist() for row, length in zip(array, lengths, strict=True)]
    if not is_surely_finite(array):
        _check_finite(np.moveaxis(array, 1, 2), lengths)
    return [np.ascontiguousarray(row[:, :length]) for row, length in zip(array, lengths, strict=True)]


def numbers(tree: Tree | Array) -> int:
    """How many numbers the arrays of an answer have."""
    return tree.size if isinstance(tree, np.ndarray) else sum(map(numbers, tree.values()))


def to_json(answer: Any) -> bytes:
    """A small answer as JSON."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def to_json_parts(answer: Mapping[str, Any]) -> list[bytes]:
    """A large answer as JSON, in parts of about PART_BYTES."""
    parts: list[bytes] = []
    gathered: list[bytes] = []
    size = 0
    for piece in _pieces(answer):
        gathered.append(piece)
        size += len(piece)
        if size >= PART_BYTES:
            parts.append(b"".join(gathered))
            gathered, size = [], 0
    return [*parts, b"".join(gathered)]


def _completed(tree: Tree, lengths: Array | None) -> dict[str, dict[str, Any]]:
    return {
        name: {
            part: (finite_draws if part in OF_DRAWS else finite)(array, lengths) for part, array in completed.items()
        }
        for name, completed in tree.items()
    }


def _with_names(outputs: Mapping[str, Array], modality: ModalityConfig) -> dict[str, Any]:
    named = dict(outputs)
    if modality.category_names is None or modality.categories is None:
        return named
    names = _names(modality.category_names, modality.categories)
    categories = [output.name for output in modality.facts.outputs if output.holds == "category"]
    for output in (*categories, VALUE, DRAWS):
        if output in outputs:
            named[f"{output}_name"] = names[outputs[output]]
            if names.dtype != object:
                named[output] = named[f"{output}_name"]
    return named


@lru_cache(maxsize=256)
def _names(names: CategoryNames, categories: int) -> Array:
    """Names by the category's number: int64 (K,) if they are numbers, else texts, None where there is no name."""
    if len(names) == categories and isinstance(names[0], int):
        return np.array(names, np.int64)
    padded = np.full(categories, None, dtype=object)
    padded[: len(names)] = names
    return padded


def _check_finite(array: Array, lengths: Array | None) -> None:
    is_finite = np.isfinite(array)
    if lengths is not None:  # padding has no meaning
        steps = np.arange(array.shape[1]).reshape(-1, *[1] * (array.ndim - 2))
        is_finite |= steps >= lengths.reshape(-1, *[1] * (array.ndim - 1))
    if not is_finite.all():
        row = int(np.argwhere(~is_finite)[0][0])
        detail = f"row {row} has values so far from the training data that its answer is not a finite number"
        raise BadInput([Fault("/inputs", "out_of_range", detail)])


def _pieces(value: Any) -> Iterator[bytes]:
    match value:
        case np.ndarray():
            yield from _array_pieces(value)
        case dict():
            yield b"{"
            for place, (key, item) in enumerate(value.items()):
                yield (b"," if place else b"") + orjson.dumps(key) + b":"
                yield from _pieces(item)
            yield b"}"
        case list() if value and not isinstance(value[0], dict | list | np.ndarray):  # texts
            yield from _chunks(value)
        case list():
            yield b"["
            for place, item in enumerate(value):
                if place:
                    yield b","
                yield from _pieces(item)
            yield b"]"
        case _:
            yield orjson.dumps(value)


def _array_pieces(array: Array) -> Iterator[bytes]:
    """An array (N, ...), as many rows at a time as have CHUNK_NUMBERS together."""
    if array.size <= CHUNK_NUMBERS:
        yield to_json(array)
    elif array.ndim == 1 or array.size < len(array) * CHUNK_NUMBERS:
        yield from _chunks(array, max(1, CHUNK_NUMBERS * len(array) // array.size))
    else:
        yield from _pieces(list(array))


def _chunks(items: Array | list[Any], count: int = CHUNK_NUMBERS) -> Iterator[bytes]:
    """The items, `count` at a time."""
    yield b"["
    for first in range(0, len(items), count):
        yield (b"," if first else b"") + to_json(items[first : first + count])[1:-1]
    yield b"]"
