"""Checks of JSON request bodies: size before parsing, syntax, repeated keys, zero characters."""

import contextlib
import json
from typing import Any

from service.shared import json_syntax
from service.shared.errors import BadInput, Fault, pointer

MAX_BYTES = 1024**2
"""Limit of bodies that are not inference requests. The full configuration of 1000 modalities takes 300 kB."""
MAX_PARTS = 25_000
"""Limit of commas, colons and opening brackets together. It bounds the time to parse and validate a body."""
MAX_KEY_CHARACTERS = 100
ZERO = rb"\u0000"
"""The only JSON notation of a zero character."""
_PARTS = (b",", b":", b"[", b"{")


class UnreadableJson(BadInput):
    """Bytes that no JSON parser reads."""

    status = 400


def check(raw: bytes) -> None:
    """Raise BadInput for invalid JSON, too many parts, a repeated key or a zero character."""
    parts = sum(raw.count(part) for part in _PARTS)
    if parts > MAX_PARTS:
        detail = f"the body has {parts} commas, colons and opening brackets, expected at most {MAX_PARTS}"
        raise BadInput([Fault("", "too_many_values", f"{detail}; send a smaller body")])
    try:
        _load_unique(raw)
    except json.JSONDecodeError as error:
        raise BadInput([Fault("", "not_json", f"the body is not JSON: {json_syntax.reason(error)}")]) from error
    except (RecursionError, ValueError) as error:
        detail = "the body is bytes that are no UTF-8, is nested too deep, or has a number too long, expected JSON"
        raise UnreadableJson([Fault("", "not_json", detail)], code="not_json") from error
    if ZERO in raw:
        refuse_zero_characters(raw)


def refuse_repeated_keys(raw: bytes) -> None:
    """Raise BadInput with the place of the first key that its object repeats. Another parser reports invalid JSON."""
    with contextlib.suppress(RecursionError, ValueError):
        _load_unique(raw)


def _load_unique(raw: bytes) -> None:
    """Parse JSON. Raises BadInput for a repeated key, and the errors of `json.loads`."""
    repeated: dict[int, tuple[dict[str, Any], str]] = {}

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            repeated[id(entries)] = entries, _first_repeated(pairs)  # the reference keeps the id from being reused
        return entries

    document = json.loads(raw, object_pairs_hook=unique)
    if repeated:
        place, (_, key) = _find(document, repeated)
        short_key = key[:MAX_KEY_CHARACTERS]
        place_text = pointer(*place) or "the top level"
        detail = f"the object at {place_text} has the key {short_key!r} twice, expected unique keys; remove one of them"
        raise BadInput([Fault(pointer(*place, short_key), "duplicate_key", detail)])


def refuse_zero_characters(raw: bytes) -> None:
    """Raise BadInput with the place of the first text that has a zero character: PostgreSQL cannot store it."""
    try:
        pending: list[tuple[tuple[str | int, ...], Any]] = [((), json.loads(raw))]
    except (RecursionError, ValueError):
        return
    while pending:
        place, value = pending.pop()
        texts = [value] if isinstance(value, str) else value if isinstance(value, dict) else ()
        if any("\0" in text for text in texts):
            what = f"a key of {pointer(*place) or 'the body'}" if isinstance(value, dict) else pointer(*place)
            detail = f"{what or 'the body'} has a zero character (U+0000), expected text without one"
            raise BadInput([Fault(pointer(*place), "zero_character", detail)])
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        pending += [((*place, step), item) for step, item in reversed(list(inner))]


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
    """The first object in the document that repeats a key, and its place."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while pending:
        place, value = pending.pop()
        if id(value) in repeated:
            return place, repeated[id(value)]
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        pending += [
            ((*place, step if isinstance(step, int) else step[:MAX_KEY_CHARACTERS]), item)
            for step, item in reversed(list(inner))
            if isinstance(item, dict | list)
        ]
    raise AssertionError("every parsed object is in the document, or in a value that a repeated key replaced")
