"""Bodies: a JSON head, then the bytes of binary tensors behind one another; the whole may be compressed."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.inference import writing
from service.shared import json_documents, json_syntax
from service.shared.errors import BadInput, Fault, TooLarge, UnsupportedMediaType

HEAD_LENGTH = "inference-header-content-length"
ENCODINGS = ("gzip", "deflate")
"""What a client may send in, and ask for. `deflate` is the zlib format, as HTTP says."""
LEAST_PACKED = 1024
"""Bytes from which compression is worth its time."""
MOST_DIGITS = 18
MOST_LEVELS = 4
"""Of objects and lists of objects: a parameter stands in the head, in a list, in a tensor, in its parameters."""
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
        raise BadInput(
            [Fault("", "not_compressed", f"the body is no {encoding} data, expected what Content-Encoding says")]
        ) from error
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


def packed(parts: Sequence[bytes], encoding: str) -> bytes:
    """A body compressed for a client that asks for it."""
    writer = zlib.compressobj(1, wbits=_WINDOWS[encoding])
    return b"".join([*map(writer.compress, parts), writer.flush()])


def head_bytes(body: bytes, head_length: str | None) -> int:
    """How many bytes of a body are its JSON head. Raises BadInput."""
    if head_length is None:
        return len(body)
    number = head_length.isascii() and head_length.isdecimal() and len(head_length) <= MOST_DIGITS
    if not number or int(head_length) > len(body):
        detail = (
            f"Inference-Header-Content-Length is {head_length[:40]!r}, expected at most the body's {len(body)} bytes"
        )
        raise BadInput([Fault(HEAD_LENGTH, "bad_length", detail)])
    return int(head_length)


def split(body: bytes, head_length: str | None) -> tuple[dict[str, Any], memoryview]:
    """The JSON head, and the bytes behind it. Raises BadInput."""
    size = head_bytes(body, head_length)
    raw = body[:size]
    try:
        head = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadInput(
            [Fault("", "not_json", f"the head of the body is not JSON: {json_syntax.reason(error)}")]
        ) from error
    if not isinstance(head, dict):
        raise BadInput([Fault("", "not_an_object", f"the head is a {type(head).__name__}, expected an object")])
    if raw.count(b":") != _colons(head, MOST_LEVELS):
        json_documents.refuse_repeated_keys(raw)
    return head, memoryview(body)[size:]


def _colons(value: Any, levels: int) -> int:
    """How many colons the JSON of a value has, unless keys repeat: one behind every key, and those in texts."""
    match value:
        case dict() if levels:
            return len(value) + sum(_colons(one, levels - 1) for one in value.values())
        case [dict(), *_] if levels:
            return sum(_colons(one, levels - 1) for one in value)
        case str():
            return value.count(":")
    return 0


def joined(head: Mapping[str, Any], binary: Sequence[bytes], large: bool) -> tuple[list[bytes], dict[str, str]]:
    """A body of this head and these tensors, in parts when it is large, and the headers that say how to read it."""
    parts = writing.pieces(head) if large else [writing.dumps(head)]
    if not binary:
        return parts, {"Content-Type": "application/json"}
    length = sum(map(len, parts))
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
    return [*parts, *binary] if large else [b"".join([*parts, *binary])], headers
