"""What a sequence that comes in pieces is gone on from: carried by the client, signed by us, kept nowhere."""

import base64
from typing import Any

import numpy as np

from service.inference.questions import Version
from service.inference.values import Array, shown
from service.shared.errors import Fault, NotOurs
from service.shared.signing import Forged, Signer

PURPOSE = "state"


def pack(signer: Signer, version: Version, state: Array) -> str:
    """A token of the states (B, F) of the rows of a request."""
    content = base64.b64encode(np.ascontiguousarray(state, np.float32).tobytes()).decode()
    return signer.sign(f"{PURPOSE} of {version.id}", [list(state.shape), content])


def unpack(signer: Signer, version: Version, token: Any, rows: int) -> Array | None:
    """The states of as many rows; None at the beginning. Raises NotOurs for what this version has not given."""
    if token is None:
        return None
    try:
        shape, content = signer.read(f"{PURPOSE} of {version.id}", token if isinstance(token, str) else "")
    except Forged as error:
        detail = (
            f"state is {shown(token)}, expected one that {version.model!r} version {version.number} has answered with"
        )
        raise NotOurs([Fault("/state", "invalid_state", detail)], "invalid_state") from error
    if shape[0] != rows:
        detail = f"state is of {shape[0]} rows, the inputs have {rows}"
        raise NotOurs([Fault("/state", "invalid_state", detail)], "invalid_state")
    return np.frombuffer(base64.b64decode(content), np.float32).reshape(shape)
