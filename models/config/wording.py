"""What is wrong with a value, in our own codes and words: Pydantic's speak of its internals and change with it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

MAX_SHOWN_CHARACTERS = 80
MAX_CHOICES_CHARACTERS = 1000

_MOMENT = "a date and time such as 2026-03-01T12:00:00Z"
_WHOLE = "a whole number"
_EXPECTED: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "a value",
    "none_required": "null",
    "greater_than": lambda ctx: f"more than {_bound(ctx['gt'])}",
    "greater_than_equal": lambda ctx: f"at least {_bound(ctx['ge'])}",
    "less_than": lambda ctx: f"less than {_bound(ctx['lt'])}",
    "less_than_equal": lambda ctx: f"at most {_bound(ctx['le'])}",
    "multiple_of": lambda ctx: f"a multiple of {ctx['multiple_of']}",
    "finite_number": "a finite number",
    "too_short": lambda ctx: f"at least {ctx['min_length']}",
    "too_long": lambda ctx: f"at most {ctx['max_length']}",
    "string_type": "text",
    "string_unicode": "text of Unicode characters, without halves of surrogate pairs",
    "string_too_short": lambda ctx: f"text of at least {ctx['min_length']} characters",
    "string_too_long": lambda ctx: f"text of at most {ctx['max_length']} characters",
    "string_pattern_mismatch": lambda ctx: f"text that matches {ctx['pattern']}",
    "zero_character": "text without a zero character (U+0000)",
    "literal_error": lambda ctx: str(ctx["expected"])[:MAX_CHOICES_CHARACTERS],
    "enum": lambda ctx: str(ctx["expected"])[:MAX_CHOICES_CHARACTERS],
    "union_tag_invalid": lambda ctx: f"one of {ctx['expected_tags']}"[:MAX_CHOICES_CHARACTERS],
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "a whole number with fewer digits",
    "int_from_float": _WHOLE,
    "float_type": "a number",
    "float_parsing": "a number",
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "datetime_object_invalid": _MOMENT,
    "timezone_aware": f"{_MOMENT}, with its time zone",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "mapping_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
}

INVALID_VALUE = "invalid_value"
_CODES: dict[str, tuple[str, ...]] = {
    "missing": ("missing", "union_tag_not_found"),
    "unknown_field": ("extra_forbidden",),
    "unknown_value": ("literal_error", "enum", "union_tag_invalid"),
    "wrong_type": (
        "none_required", "string_type", "bool_type", "bool_parsing", "int_type", "int_parsing", "int_from_float",
        "float_type", "float_parsing", "datetime_type", "model_type", "model_attributes_type", "dict_type",
        "mapping_type", "list_type", "tuple_type",
    ),
    "wrong_format": (
        "string_unicode", "string_pattern_mismatch", "datetime_parsing", "datetime_from_date_parsing",
        "datetime_object_invalid", "timezone_aware",
    ),
    "out_of_range": (
        "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number",
        "int_parsing_size",
    ),
    "too_short": ("too_short", "string_too_short"),
    "too_long": ("too_long", "string_too_long"),
    "zero_character": ("zero_character",),
}  # fmt: skip
_CODE_OF = {type: code for code, types in _CODES.items() for type in types}
CODES = (*_CODES, INVALID_VALUE)
"""Every code that `code` returns."""


def code(found: Mapping[str, Any]) -> str:
    """The kind of one of the errors that `ValidationError.errors()` lists, for programs."""
    return _CODE_OF.get(found["type"], INVALID_VALUE)


def expected(found: Mapping[str, Any]) -> str:
    """What a value should have been, by one of the errors that `ValidationError.errors()` lists."""
    words = _EXPECTED.get(found["type"], "a value that the API description allows")
    return words if isinstance(words, str) else words(found["ctx"])


def came(found: Mapping[str, Any]) -> str:
    """What came instead, as the rest of a sentence: "is 0", "has 3 items"."""
    if found["type"] == "missing":
        return "is missing"
    if found["type"] in ("too_short", "too_long") and (count := found["ctx"].get("actual_length")) is not None:
        return f"has {count} items"
    return f"is {shown(found.get('input'))}"


def sentence(name: str, found: Mapping[str, Any]) -> str:
    """What one of the errors that `ValidationError.errors()` lists says about the value called `name`."""
    if found["type"] == "value_error":  # one of our validators raised it, with a message of ours
        return f"{name}: {found['ctx']['error']}"
    return f"{name} {came(found)}, expected {expected(found)}"


def sentences(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """The place of everything that is wrong with a configuration, and what is wrong."""
    found = []
    for one in error.errors():
        name = ".".join(map(str, one["loc"]))
        own = one["type"] == "value_error" and not name
        found.append((one["loc"], str(one["ctx"]["error"]) if own else sentence(name or "it", one)))
    return found


def shown(value: Any) -> str:
    """A value as a message quotes it: as JSON writes it, and never at length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"a list of {len(value)} items"
    if isinstance(value, dict):
        return f"an object with {len(value)} fields"
    text = repr(value[: MAX_SHOWN_CHARACTERS + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"


def _bound(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
