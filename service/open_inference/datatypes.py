"""Element types of the protocol, and the binary form of its type BYTES."""

import struct
from collections.abc import Iterable

import numpy as np

from service.inference.modality_values import Array

DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("bool"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Binary tensors are little-endian on every machine."""
BYTES = "BYTES"
"""Texts, for category names. In binary each text follows its length in 4 little-endian bytes."""
LENGTH_BYTES = 4
_LENGTH = struct.Struct("<I")


def name_of(dtype: "np.dtype[np.generic]") -> str:
    """The protocol's name for the type of an answer."""
    if dtype.kind == "O":
        return BYTES
    if dtype.kind == "f":
        return "FP32"
    return "INT64" if dtype.kind in "iu" else "BOOL"


def unpack_texts(raw: memoryview, count: int) -> Array:
    """`count` texts that fill `raw`, as objects (count,). Raises ValueError, whose text continues a sentence.

    Bytes that are not UTF-8 become a text that is no category name.
    """
    texts = np.empty(count, object)
    start = 0
    for place in range(count):
        if start + LENGTH_BYTES > len(raw):
            raise ValueError(f"ends within the length of text {place}, expected {count} texts")
        (length,) = _LENGTH.unpack_from(raw, start)
        start += LENGTH_BYTES + length
        if start > len(raw):
            raise ValueError(f"has {length} bytes announced for text {place}, more than there are")
        texts[place] = bytes(raw[start - length : start]).decode(errors="replace")
    if start != len(raw):
        raise ValueError(f"has {len(raw) - start} bytes behind its {count} texts, expected none")
    return texts


def pack_texts(texts: Iterable[str]) -> bytes:
    """Texts as a binary tensor."""
    encoded = (text.encode() for text in texts)
    return b"".join(_LENGTH.pack(len(each)) + each for each in encoded)
