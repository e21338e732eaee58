"""What a request says beside its tensors."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from service.inference.payload import MOST_FAULTS
from service.inference.values import shown
from service.shared.errors import BadInput, Fault, pointer

MOST_DRAWS = 1000
MOST_SEED = 2**53 - 1
MOST_ID_CHARACTERS = 200
MOST_MICROSECONDS = 600_000_000
FIELDS = {"id", "parameters", "inputs", "outputs"}


class Parameters(NamedTuple):
    """How to answer a request. The priority that a client may name changes nothing: whoever came first is first."""

    id: str
    timeout_seconds: float
    n_samples: int
    seed: int


_LIMITS = {"timeout": MOST_MICROSECONDS, "n_samples": MOST_DRAWS, "seed": MOST_SEED, "priority": 2**64 - 1}
_PASSED_OVER = {"binary_data_output"}  # it is about the outputs


def read_parameters(head: Mapping[str, Any]) -> Parameters:
    """The id and the parameters of a request. Raises BadInput."""
    faults = [
        Fault(pointer(name), "unknown_field", f"unknown field {shown(name)}, expected some of {sorted(FIELDS)}")
        for name in head
        if name not in FIELDS
    ]
    given = head.get("parameters") or {}
    if not isinstance(given, dict):
        faults.append(Fault("/parameters", "not_an_object", f"parameters is {shown(given)}, expected an object"))
        given = {}
    for name, value in given.items():
        if name in _PASSED_OVER:
            if type(value) is not bool:
                detail = f"parameter {name} is {shown(value)}, expected true or false"
                faults.append(Fault(pointer("parameters", name), "bad_boolean", detail))
            continue
        if name not in _LIMITS:
            detail = f"parameter {shown(name)}, expected some of {sorted({*_LIMITS, *_PASSED_OVER})}"
            if name.startswith("sequence_"):
                detail += "; a sequence comes whole, or in pieces with the `state` of /v1"
            faults.append(Fault(pointer("parameters", name), "unknown_parameter", detail))
        elif type(value) is not int or not 0 <= value <= _LIMITS[name]:
            detail = f"parameter {name} is {shown(value)}, expected an integer from 0 to {_LIMITS[name]}"
            faults.append(Fault(pointer("parameters", name), "bad_integer", detail))
    request_id = head.get("id", "")
    if not isinstance(request_id, str) or len(request_id) > MOST_ID_CHARACTERS or "\0" in request_id:
        detail = (
            f"id is {shown(request_id)}, expected text of at most {MOST_ID_CHARACTERS} characters, none of them zero"
        )
        faults.append(Fault("/id", "bad_id", detail))
    if faults:
        raise BadInput(faults[:MOST_FAULTS])
    timeout = given.get("timeout", 0)
    return Parameters(
        request_id, timeout / 1e6 if timeout else math.inf, given.get("n_samples", 0), given.get("seed", 0)
    )
