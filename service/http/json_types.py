"""The types of JSON in request bodies: `"5"` is not a number, and `1` is not true. Pydantic would convert them."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

_CONVERTIBLE = ("int_type", "float_type", "bool_type")


def check(adapter: TypeAdapter[Any], raw: bytes) -> None:
    """Raise RequestValidationError for a body in which Pydantic would convert a value to another type of JSON.

    All other bodies are left to FastAPI. A whole number may be written `1.0`, as JSON Schema allows.
    """
    try:
        adapter.validate_json(raw, strict=True)
    except ValidationError as error:
        errors = [each for each in error.errors() if not _is_whole(each)]
        if any(each["type"] in _CONVERTIBLE for each in errors):
            located = [{**each, "loc": ("body", *each["loc"])} for each in errors]
            raise RequestValidationError(located, body=json.loads(raw)) from error


def _is_whole(error: Mapping[str, Any]) -> bool:
    value = error["input"]
    return error["type"] == "int_type" and isinstance(value, float) and value.is_integer()
