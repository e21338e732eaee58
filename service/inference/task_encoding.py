"""Batches and answers as bytes, between API processes and `infer` workers: msgpack with arrays as extensions."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
import numpy as np

from service.inference.backend import Computed
from service.inference.modality_values import Array
from service.inference.queries import Computation, Loadable
from service.inference.rows import Rows
from service.shared.errors import Damaged, Exhausted, SensoriumError, Unavailable

ARRAY = 1
KNOWN_ERRORS: dict[str, type[SensoriumError]] = {kind.__name__: kind for kind in (Damaged, Exhausted, Unavailable)}


class Failed(RuntimeError):
    """A worker could not compute a batch because of a fault of the service."""


@dataclass(frozen=True)
class Order:
    """A batch to compute. channel: where the answer is published. expires_at: until when it is wanted, in Unix time."""

    id: str
    channel: str
    expires_at: float
    computation: Computation
    rows: Rows
    state: Array | None


@dataclass(frozen=True)
class Stored:
    """An answer that is too large to publish: a key of Redis has it for a while."""

    key: str


def pack_order(order: Order) -> bytes:
    """An order as bytes."""
    rows = order.rows
    loadable = Loadable(**{name: getattr(order.computation.version, name) for name in Loadable.__dataclass_fields__})
    return _pack(
        {
            "id": order.id,
            "channel": order.channel,
            "expires_at": order.expires_at,
            "version": asdict(loadable),
            "operation": order.computation.operation,
            "arguments": dict(order.computation.arguments),
            "has_state": order.computation.has_state,
            "rows": [rows.count, rows.values, rows.present, rows.lengths, rows.numbers],
            "state": order.state,
        }
    )


def unpack_order(packed: bytes) -> Order:
    """An order from bytes."""
    read = _unpack(packed)
    computation = Computation(Loadable(**read["version"]), read["operation"], read["arguments"], read["has_state"])
    return Order(read["id"], read["channel"], read["expires_at"], computation, Rows(*read["rows"]), read["state"])


def pack_answer(order_id: str, computed: Computed) -> bytes:
    """The answer of a batch."""
    return _pack({"id": order_id, "tree": computed.tree, "seconds": computed.seconds})


def pack_failure(order_id: str, error: Exception) -> bytes:
    """The error of a batch."""
    known = next((kind.__name__ for kind in type(error).__mro__ if kind in KNOWN_ERRORS.values()), None)
    if isinstance(error, SensoriumError) and known is not None:
        return _pack({"id": order_id, "error": known, "code": error.code, "detail": error.detail})
    return _pack({"id": order_id, "error": "", "code": "", "detail": f"{type(error).__name__}: {error}"})


def pack_stored(order_id: str, key: str) -> bytes:
    """The key of Redis that has the answer of a batch."""
    return _pack({"id": order_id, "stored": key})


def unpack_answer(packed: bytes) -> tuple[str, Computed | Exception | Stored]:
    """The id of an order, and its answer, its error, or where the answer is stored."""
    read = _unpack(packed)
    if "stored" in read:
        return read["id"], Stored(read["stored"])
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
        raise TypeError(f"a message has a {type(value).__name__}, expected arrays and plain values")
    head = msgpack.packb([value.dtype.str, value.shape])
    return msgpack.ExtType(ARRAY, bytes([len(head)]) + head + np.ascontiguousarray(value).tobytes())


def _array(code: int, packed: bytes) -> Array:
    if code != ARRAY:
        raise ValueError(f"extension {code} in a message, expected {ARRAY}")
    end = 1 + packed[0]
    dtype, shape = msgpack.unpackb(packed[1:end])
    return np.frombuffer(packed, dtype, math.prod(shape), end).reshape(shape)
