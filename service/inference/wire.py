"""Batches and answers as bytes, between an API process and the workers that compute: msgpack, arrays as they are."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
import numpy as np

from service.inference.backend import Computed
from service.inference.payload import Rows
from service.inference.questions import Loadable, Question
from service.inference.values import Array
from service.shared.errors import Damaged, Exhausted, SensoriumError, Unavailable

ARRAY = 1
KNOWN_ERRORS: dict[str, type[SensoriumError]] = {kind.__name__: kind for kind in (Damaged, Exhausted, Unavailable)}


class Failed(RuntimeError):
    """A worker could not compute a batch, for a reason that is not the caller's."""


@dataclass(frozen=True)
class Order:
    """A batch to compute. channel: where the answer goes. expires_at: seconds since 1970; nobody waits after that."""

    id: str
    channel: str
    expires_at: float
    question: Question
    rows: Rows
    state: Array | None


@dataclass(frozen=True)
class Kept:
    """An answer that is too large for a channel: it stands under a key of Redis for a while."""

    key: str


def pack_order(order: Order) -> bytes:
    """An order as a message."""
    rows = order.rows
    loadable = Loadable(**{name: getattr(order.question.version, name) for name in Loadable.__dataclass_fields__})
    return _pack(
        {
            "id": order.id,
            "channel": order.channel,
            "expires_at": order.expires_at,
            "version": asdict(loadable),
            "operation": order.question.operation,
            "arguments": dict(order.question.arguments),
            "goes_on": order.question.goes_on,
            "rows": [rows.count, rows.values, rows.present, rows.lengths],
            "state": order.state,
        }
    )


def read_order(packed: bytes) -> Order:
    """An order from a message."""
    read = _unpack(packed)
    question = Question(Loadable(**read["version"]), read["operation"], read["arguments"], read["goes_on"])
    return Order(read["id"], read["channel"], read["expires_at"], question, Rows(*read["rows"]), read["state"])


def pack_answer(order_id: str, computed: Computed) -> bytes:
    """What the model said."""
    return _pack({"id": order_id, "tree": computed.tree, "seconds": computed.seconds})


def pack_failure(order_id: str, error: Exception) -> bytes:
    """Why there is no answer."""
    known = next((kind.__name__ for kind in type(error).__mro__ if kind in KNOWN_ERRORS.values()), None)
    if isinstance(error, SensoriumError) and known is not None:
        return _pack({"id": order_id, "error": known, "code": error.code, "detail": error.detail})
    return _pack({"id": order_id, "error": "", "code": "", "detail": f"{type(error).__name__}: {error}"})


def pack_kept(order_id: str, key: str) -> bytes:
    """Where the answer is."""
    return _pack({"id": order_id, "kept": key})


def read_answer(packed: bytes) -> tuple[str, Computed | Exception | Kept]:
    """The id of an order, and what came of it."""
    read = _unpack(packed)
    if "kept" in read:
        return read["id"], Kept(read["kept"])
    if "tree" in read:
        return read["id"], Computed(read["tree"], read["seconds"])
    if kind := KNOWN_ERRORS.get(read["error"]):
        return read["id"], kind(read["code"], read["detail"])
    return read["id"], Failed(read["detail"])


def _pack(message: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(message, default=_extension)
    return packed


def _unpack(packed: bytes) -> dict[str, Any]:
    message: dict[str, Any] = msgpack.unpackb(packed, ext_hook=_array, strict_map_key=True)
    return message


def _extension(value: Any) -> msgpack.ExtType:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} does not travel, only arrays and plain values do")
    head = msgpack.packb([value.dtype.str, value.shape])
    return msgpack.ExtType(ARRAY, bytes([len(head)]) + head + np.ascontiguousarray(value).tobytes())


def _array(code: int, packed: bytes) -> Array:
    if code != ARRAY:
        raise ValueError(f"extension {code} in a message, expected {ARRAY}")
    end = 1 + packed[0]
    dtype, shape = msgpack.unpackb(packed[1:end])
    return np.frombuffer(packed, dtype, math.prod(shape), end).reshape(shape)
