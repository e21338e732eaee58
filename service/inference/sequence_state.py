"""The state of a sequence that is sent in pieces: a signed token that only the client keeps."""

import base64

import numpy as np

from service.inference.modality_values import Array, shown
from service.inference.queries import Version
from service.shared.errors import Fault, InvalidToken
from service.shared.signing import Forged, Signer

PURPOSE = "state"


def to_token(signer: Signer, version: Version, state: Array) -> str:
    """The token of the states (B, F) of a request's rows."""
    content = base64.b64encode(np.ascontiguousarray(state, np.float32).tobytes()).decode()
    return signer.sign(f"{PURPOSE} of {version.id}", [list(state.shape), content])


def from_token(signer: Signer, version: Version, token: str, rows: int) -> Array:
    """The states (B, F) of `rows` rows. Raises InvalidToken for a token that this version did not issue."""
    try:
        shape, content = signer.read(f"{PURPOSE} of {version.id}", token)
    except Forged as error:
        expected = f"one that {version.model!r} version {version.number} has returned"
        raise invalid_state(f"state is {shown(token)}, expected {expected}") from error
    if shape[0] != rows:
        raise invalid_state(f"state is of {shape[0]} rows, the inputs have {rows}")
    return np.frombuffer(base64.b64decode(content), np.float32).reshape(shape)


def invalid_state(detail: str) -> InvalidToken:
    """The error of an invalid `state`."""
    return InvalidToken([Fault("/state", "invalid_state", detail)], "invalid_state")
