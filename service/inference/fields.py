"""The fields of a request's JSON body, read without Pydantic: most of it are values that only NumPy should look at."""

import math
from itertools import islice
from typing import Any

import orjson

from service.inference.payload import MOST_FAULTS
from service.inference.values import shown
from service.shared import json_documents, json_syntax
from service.shared.errors import BadInput, Fault, pointer

MOST_QUANTILES = 20
MOST_SECONDS = 600


class Body:
    """A body that is an object with some of the known fields. Raises BadInput when it is none."""

    def __init__(self, raw: bytes, fields: set[str]) -> None:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadInput([Fault("", "not_json", f"the body is not JSON: {json_syntax.reason(error)}")]) from error
        if not isinstance(body, dict):
            raise BadInput([Fault("", "not_an_object", f"the body is a {type(body).__name__}, expected an object")])
        # Every colon of a good body stands behind a key: in its objects, one in the other, or in what no field takes.
        inputs = body.get("inputs")
        if raw.count(b":") != len(body) + (len(inputs) if isinstance(inputs, dict) else 0):
            json_documents.refuse_repeated_keys(raw)
        if body.keys() - fields:
            expected = f"expected some of {sorted(fields)}"
            first = islice((name for name in body if name not in fields), MOST_FAULTS)
            raise BadInput([Fault(pointer(n), "unknown_field", f"unknown field {shown(n)}, {expected}") for n in first])
        self._fields: dict[str, Any] = body

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def get(self, name: str) -> Any:
        """A field as it came; None when it did not."""
        return self._fields.get(name)

    def integer(self, name: str, default: int, most: int, least: int = 0) -> int:
        """A whole number in its range. Raises BadInput."""
        value = self._fields.get(name, default)
        if type(value) is not int or not least <= value <= most:
            detail = f"{name} is {shown(value)}, expected an integer from {least} to {most}"
            raise BadInput([Fault(f"/{name}", "bad_integer", detail)])
        return value

    def seconds(self, name: str) -> float:
        """A length of time, without end by default. Raises BadInput."""
        value = self._fields.get(name)
        if value is None:
            return math.inf
        if type(value) not in (int, float) or not 0 < value <= MOST_SECONDS:
            detail = f"{name} is {shown(value)}, expected a number above 0, at most {MOST_SECONDS}"
            raise BadInput([Fault(f"/{name}", "bad_seconds", detail)])
        return float(value)

    def fractions(self, name: str, default: list[float]) -> list[float]:
        """Numbers between 0 and 1. Raises BadInput."""
        value = self._fields.get(name, default)
        fits = isinstance(value, list) and 0 < len(value) <= MOST_QUANTILES
        if not fits or any(type(one) not in (int, float) or not 0 <= one <= 1 for one in value):
            detail = f"{name} is {shown(value)}, expected up to {MOST_QUANTILES} numbers from 0 to 1"
            raise BadInput([Fault(f"/{name}", "bad_fractions", detail)])
        return [float(one) for one in value]
