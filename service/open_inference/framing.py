"""The form of bodies: a JSON head, then the bytes of binary tensors one after the other. It may be compressed."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.inference import encoding
from service.inference.modality_values import shown
from service.shared import json_documents, json_syntax
from service.shared.errors import BadInput, Fault, TooLarge, UnsupportedMediaType

HEAD_LENGTH = "inference-header-content-length"
ENCODINGS = ("gzip", "deflate")
"""Of requests and answers. `deflate` is the zlib format, as HTTP defines it."""
MIN_COMPRESSED_BYTES = 1024
"""Shorter answers are not worth the time of compression."""
MAX_DIGITS = 18
MAX_LEVELS = 4
"""Of nested objects: the deepest is a tensor's parameters, in the tensor, in a list, in the head."""
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def decompressed(body: bytes, content_encoding: str | None, max_bytes: int) -> bytes:
    """A body without its compression. Raises UnsupportedMediaType, BadInput, and TooLarge."""
    name = (content_encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in ENCODINGS:
        detail = f"content encoding {name[:40]!r}, expected one of {', '.join(ENCODINGS)}"
        raise UnsupportedMediaType("unsupported_content_encoding", detail)
    reader = zlib.decompressobj(_WINDOWS[name])
    try:
        content = reader.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BadInput(
            [Fault("", "not_compressed", f"the body is not {name} data, expected what Content-Encoding says")]
        ) from error
    if len(content) > max_bytes:
        raise TooLarge("body_too_large", f"the body has more than {max_bytes} bytes when decompressed")
    if not reader.eof or reader.unused_data:
        raise BadInput([Fault("", "not_compressed", f"the body is cut off, or continues after its {name} data")])
    return content


def answer_encoding(accepted: str | None, size: int) -> str | None:
    """The compression of an answer of this size, None for no compression.

    Only a client that names one encoding gets it. HTTP libraries list all encodings that they know in every request,
    even if their caller does not decompress, as aiohttp under tritonclient.
    """
    name = (accepted or "").strip().lower()
    return name if name in ENCODINGS and size > MIN_COMPRESSED_BYTES else None


def compressed(parts: Sequence[bytes], content_encoding: str) -> bytes:
    """A compressed body."""
    writer = zlib.compressobj(1, wbits=_WINDOWS[content_encoding])
    return b"".join([*map(writer.compress, parts), writer.flush()])


def head_bytes(body: bytes, head_length: str | None) -> int:
    """The length of the JSON head of a body. Raises BadInput."""
    if head_length is None:
        return len(body)
    is_number = head_length.isascii() and head_length.isdecimal() and len(head_length) <= MAX_DIGITS
    if not is_number or int(head_length) > len(body):
        detail = (
            f"Inference-Header-Content-Length is {head_length[:40]!r}, expected at most the body's {len(body)} bytes"
        )
        raise BadInput([Fault(HEAD_LENGTH, "bad_length", detail)])
    return int(head_length)


def split(body: bytes, head_length: str | None) -> tuple[dict[str, Any], memoryview]:
    """The JSON head, and the bytes after it. Raises BadInput."""
    size = head_bytes(body, head_length)
    raw = body[:size]
    try:
        head = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadInput(
            [Fault("", "not_json", f"the head of the body is not JSON: {json_syntax.reason(error)}")]
        ) from error
    if not isinstance(head, dict):
        raise BadInput([Fault("", "not_an_object", f"the head is {shown(head)}, expected an object")])
    if raw.count(b":") != _colons(head, MAX_LEVELS):
        json_documents.refuse_repeated_keys(raw)
    return head, memoryview(body)[size:]


def _colons(value: Any, levels: int) -> int:
    """The colons in the JSON of a value without repeated keys: one after every key, and those in texts."""
    match value:
        case dict() if levels:
            return len(value) + sum(_colons(item, levels - 1) for item in value.values())
        case [dict(), *_] if levels:
            return sum(_colons(item, levels - 1) for item in value)
        case str():
            return value.count(":")
    return 0


def joined(head: Mapping[str, Any], binary: Sequence[bytes], is_large: bool) -> tuple[list[bytes], dict[str, str]]:
    """A body of this head and these tensors, in parts if it is large, and the headers that describe its form."""
    parts = encoding.to_json_parts(head) if is_large else [encoding.to_json(head)]
    if not binary:
        return parts, {"Content-Type": "application/json"}
    length = sum(map(len, parts))
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
    return [*parts, *binary] if is_large else [b"".join([*parts, *binary])], headers
