"""Answers as JSON, large ones in pieces: orjson holds the interpreter while it writes one."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson

from service.inference.values import Array

LARGE_NUMBERS = 100_000
"""An answer of this many is worth a thread: it is written in 5 ms or more."""
PIECE_NUMBERS = 50_000
SENT_BYTES = 1024**2

Answer = Mapping[str, Any]


def dumps(answer: Any) -> bytes:
    """A small answer, or a part of one."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def pieces(answer: Answer) -> list[bytes]:
    """A large answer, in parts of about a megabyte."""
    parts: list[bytes] = []
    gathered: list[bytes] = []
    size = 0
    for piece in _pieces(answer):
        gathered.append(piece)
        size += len(piece)
        if size >= SENT_BYTES:
            parts.append(b"".join(gathered))
            gathered, size = [], 0
    return [*parts, b"".join(gathered)]


def numbers(value: Any) -> int:
    """How many numbers the arrays of an answer have."""
    if isinstance(value, Mapping):
        return sum(map(numbers, value.values()))
    return value.size if isinstance(value, np.ndarray) else 0


def _pieces(value: Any) -> Iterator[bytes]:
    match value:
        case np.ndarray():
            yield from _array(value)
        case dict():
            yield b"{"
            for place, (key, one) in enumerate(value.items()):
                yield (b"," if place else b"") + orjson.dumps(key) + b":"
                yield from _pieces(one)
            yield b"}"
        case list() if value and not isinstance(value[0], dict | list | np.ndarray):  # texts
            yield from _chunks(value)
        case list():
            yield b"["
            for place, one in enumerate(value):
                if place:
                    yield b","
                yield from _pieces(one)
            yield b"]"
        case _:
            yield orjson.dumps(value)


def _array(array: Array) -> Iterator[bytes]:
    """(N, …), as many rows at a time as have some ten thousand numbers together."""
    if array.size <= PIECE_NUMBERS:
        yield dumps(array)
    elif array.ndim == 1 or array.size < len(array) * PIECE_NUMBERS:
        yield from _chunks(array, max(1, PIECE_NUMBERS * len(array) // array.size))
    else:
        yield from _pieces(list(array))


def _chunks(items: Array | list[Any], count: int = PIECE_NUMBERS) -> Iterator[bytes]:
    """Items of an array, so many at a time."""
    yield b"["
    for first in range(0, len(items), count):
        yield (b"," if first else b"") + dumps(items[first : first + count])[1:-1]
    yield b"]"
