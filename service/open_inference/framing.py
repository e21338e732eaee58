"""Bodies: a JSON head, then the bytes of binary tensors behind one another; the whole may be compressed."""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.shared.errors import BadInput, Fault, TooLarge, UnsupportedMediaType

HEAD_LENGTH = "inference-header-content-length"
ENCODINGS = ("gzip", "deflate")
"""What a client may send in, and ask for. `deflate` is the zlib format, as HTTP says."""
LEAST_PACKED = 1024
"""Bytes from which compression is worth its time."""
MOST_DIGITS = 18
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def unpacked(body: bytes, encoding: str | None, most_bytes: int) -> bytes:
    """A body as it was before it was compressed. Raises UnsupportedMediaType, BadInput, and TooLarge."""
    encoding = (encoding or "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding not in ENCODINGS:
        detail = f"content encoding {encoding[:40]!r}, expected one of {', '.join(ENCODINGS)}"
        raise UnsupportedMediaType("unsupported_content_encoding", detail)
    reader = zlib.decompressobj(_WINDOWS[encoding])
    try:
        found = reader.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise BadInput([Fault("", "not_compressed", f"the body is not {encoding}: {error}")]) from error
    if len(found) > most_bytes:
        raise TooLarge("body_too_large", f"the body has more than {most_bytes} bytes when unpacked")
    if not reader.eof or reader.unused_data:
        raise BadInput([Fault("", "not_compressed", f"the body is cut short, or goes on behind its {encoding} data")])
    return found


def answer_encoding(accepted: str | None, size: int) -> str | None:
    """What an answer of this size is compressed with, if at all.

    Only what a client names alone: HTTP libraries put a list of all that they know into every request, also for callers
    who then do not unpack, as aiohttp does under tritonclient.
    """
    named = (accepted or "").strip().lower()
    return named if named in ENCODINGS and size > LEAST_PACKED else None


def packed(body: bytes, encoding: str) -> bytes:
    """A body compressed for a client that asks for it."""
    return gzip.compress(body, compresslevel=1) if encoding == "gzip" else zlib.compress(body, level=1)


def split(body: bytes, head_length: str | None) -> tuple[dict[str, Any], memoryview]:
    """The JSON head, and the bytes behind it. Raises BadInput."""
    size = len(body)
    if head_length is not None:
        number = head_length.isascii() and head_length.isdecimal() and len(head_length) <= MOST_DIGITS
        if not number or int(head_length) > size:
            detail = (
                f"Inference-Header-Content-Length is {head_length[:40]!r}, expected at most the body's {size} bytes"
            )
            raise BadInput([Fault(HEAD_LENGTH, "bad_length", detail)])
        size = int(head_length)
    try:
        head = orjson.loads(body[:size])
    except orjson.JSONDecodeError as error:
        raise BadInput([Fault("", "not_json", f"the head of the body is not JSON: {error}")]) from error
    if not isinstance(head, dict):
        raise BadInput([Fault("", "not_an_object", f"the head is a {type(head).__name__}, expected an object")])
    return head, memoryview(body)[size:]


def joined(head: Mapping[str, Any], binary: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """A body of this head and these tensors, and the headers that say how to read it."""
    encoded = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return encoded, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(encoded))}
    return b"".join((encoded, *binary)), headers
