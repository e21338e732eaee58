"""JSON documents of requests: bounded before they are parsed, without repeated keys and zero characters."""

import json
from typing import Any

from service.shared.errors import BadInput, Fault, pointer

MAX_BYTES = 1024**2
"""Of a body that is no inference request. A thousand modalities with all that can be said of them take 300 kB."""
MAX_PARTS = 25_000
"""Of commas, colons and opening brackets. Each begins something to parse, to validate and to complain about."""
MAX_KEY_CHARACTERS = 100
ZERO = rb"\u0000"
"""The only way to write a zero character in JSON."""
_PARTS = (b",", b":", b"[", b"{")


def check(raw: bytes) -> None:
    """Refuse a document with too many parts, a repeated key or a zero character. Raises BadInput.

    Whether it is JSON at all is for its parser to say.
    """
    parts = sum(raw.count(part) for part in _PARTS)
    if parts > MAX_PARTS:
        detail = f"the body has {parts} commas, colons and opening brackets, expected at most {MAX_PARTS}"
        raise BadInput([Fault("", "too_many_values", f"{detail}; send less at once")])
    refuse_repeated_keys(raw)
    if ZERO in raw:
        refuse_zero_characters(raw)


def refuse_repeated_keys(raw: bytes) -> None:
    """Raise BadInput with the place of the first key that its object has already."""
    repeated: dict[int, tuple[dict[str, Any], str]] = {}

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            repeated[id(found)] = found, _first_repeated(pairs)  # kept, so that no other object gets its id
        return found

    try:
        document = json.loads(raw, object_pairs_hook=unique)
    except (RecursionError, ValueError):
        return
    if repeated:
        place, (_, key) = _find(document, repeated)
        shown = key[:MAX_KEY_CHARACTERS]
        detail = f"the key {shown!r} is there twice in the object at {pointer(*place) or 'the top'}; keep one of them"
        raise BadInput([Fault(pointer(*place, shown), "duplicate_key", detail)])


def refuse_zero_characters(raw: bytes) -> None:
    """Raise BadInput with the place of the first text that has a zero character: PostgreSQL keeps none."""
    try:
        left: list[tuple[tuple[str | int, ...], Any]] = [((), json.loads(raw))]
    except (RecursionError, ValueError):
        return
    while left:
        place, value = left.pop()
        texts = [value] if isinstance(value, str) else value if isinstance(value, dict) else ()
        if any("\0" in text for text in texts):
            what = f"a key of {pointer(*place) or 'the body'}" if isinstance(value, dict) else pointer(*place)
            detail = f"{what or 'the body'} has a zero character (U+0000), expected text without one"
            raise BadInput([Fault(pointer(*place), "zero_character", detail)])
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        left += [((*place, step), one) for step, one in reversed(list(inner))]


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return key


def _find(
    document: Any, repeated: dict[int, tuple[dict[str, Any], str]]
) -> tuple[tuple[str | int, ...], tuple[dict[str, Any], str]]:
    """The first of the objects in the document, and where it is."""
    left: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while left:
        place, value = left.pop()
        if id(value) in repeated:
            return place, repeated[id(value)]
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        left += [
            ((*place, step if isinstance(step, int) else step[:MAX_KEY_CHARACTERS]), one)
            for step, one in reversed(list(inner))
            if isinstance(one, dict | list)
        ]
    raise AssertionError("each object is part of the document, or of a value that a repeated key replaced")
