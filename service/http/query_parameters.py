"""Query parameters: none that a call does not have, none twice that is one value, none that no database keeps."""

from collections.abc import Mapping
from itertools import islice
from typing import get_origin

from fastapi.dependencies.models import Dependant
from starlette.datastructures import QueryParams

from service.shared.errors import BadInput, Fault

MAX_FAULTS = 20
MAX_SHOWN_CHARACTERS = 100


def check(query_string: bytes, known: Mapping[str, bool]) -> None:
    """Raise BadInput for parameters that a call does not have. known: name -> whether the parameter is a list."""
    given = QueryParams(query_string).multi_items()
    counts: dict[str, int] = {}
    for name, _ in given:
        counts[name] = counts.get(name, 0) + 1
    unknown = (name for name in counts if name not in known)
    faults = [
        _fault(name, "unknown_parameter", f"there is no parameter {_shown(name)}, only {sorted(known)}")
        for name in islice(unknown, MAX_FAULTS)
    ]
    faults += [
        _fault(name, "repeated_parameter", f"{name} is given {count} times, expected once")
        for name, count in counts.items()
        if count > 1 and known.get(name) is False
    ]
    faults += [
        _fault(name, "zero_character", f"{name} is {_shown(value)}, expected text without a zero character (U+0000)")
        for name, value in given
        if "\0" in value and name in known
    ]
    if faults:
        raise BadInput(faults[:MAX_FAULTS])


def parameters(dependant: Dependant) -> dict[str, bool]:
    """The parameters of a call by name, and whether each is a list."""
    found = {field.alias: get_origin(field.field_info.annotation) is list for field in dependant.query_params}
    for needed in dependant.dependencies:
        found |= parameters(needed)
    return found


def _fault(name: str, code: str, detail: str) -> Fault:
    return Fault(f"?{name[:MAX_SHOWN_CHARACTERS]}", code, detail)


def _shown(text: str) -> str:
    return repr(text[:MAX_SHOWN_CHARACTERS])
