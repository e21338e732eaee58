"""BYTES tensors of the protocol: texts behind one another, each behind its length in 4 little-endian bytes."""

import struct
from collections.abc import Iterable

import numpy as np

from service.inference.values import Array

LENGTH_BYTES = 4
_LENGTH = struct.Struct("<I")


def unpacked(raw: memoryview, count: int) -> Array:
    """`count` texts that fill `raw`, as objects: (count,). Raises ValueError, which says how it goes on behind a name.

    What is no UTF-8 becomes a text that nothing is called.
    """
    found = np.empty(count, object)
    start = 0
    for place in range(count):
        if start + LENGTH_BYTES > len(raw):
            raise ValueError(f"ends within the length of text {place}, expected {count} texts")
        (length,) = _LENGTH.unpack_from(raw, start)
        start += LENGTH_BYTES + length
        if start > len(raw):
            raise ValueError(f"has {length} bytes announced for text {place}, more than there are")
        found[place] = bytes(raw[start - length : start]).decode(errors="replace")
    if start != len(raw):
        raise ValueError(f"has {len(raw) - start} bytes behind its {count} texts, expected none")
    return found


def packed(texts: Iterable[str]) -> bytes:
    """Texts as a binary tensor."""
    pieces = (text.encode() for text in texts)
    return b"".join(_LENGTH.pack(len(piece)) + piece for piece in pieces)
