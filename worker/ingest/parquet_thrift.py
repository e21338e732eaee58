"""Thrift's compact protocol, as far as Parquet's own headers need it (thrift-compact-protocol.md in apache/thrift)."""

from collections.abc import Sequence
from typing import Any, Protocol

MOST_DEPTH = 16
STRUCT_VALUES = 8  # an empty dictionary takes the memory of as many numbers
TRUE, FALSE, BYTE, SHORT, INT, LONG, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12


class Bytes(Protocol):
    """Bytes in memory, or in a mapped file."""

    def __getitem__(self, place: int, /) -> int: ...
    def __len__(self) -> int: ...


class Damaged(ValueError):
    """Bytes that are no struct."""


class Reader:
    """Reads structs from `place` on, of at most so many fields and items. Texts and doubles are passed over."""

    def __init__(self, content: Bytes, place: int, most_values: int) -> None:
        self.place = place
        self._content = content
        self._left = most_values

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct by their number: numbers, truths, structs, and lists of them."""
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._signed()
            if number in fields:
                raise Damaged(f"field {number} is there twice")
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        self._left -= STRUCT_VALUES if kind == STRUCT else 1
        if depth > MOST_DEPTH or self._left < 0:
            raise Damaged("there are too many values")
        if kind in (SHORT, INT, LONG):
            return self._signed()
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth + 1)
        if kind not in (TRUE, FALSE, BYTE, DOUBLE, BINARY):
            raise Damaged(f"there is no type {kind}")
        size = {DOUBLE: 8, BINARY: 0}.get(kind, 1) or self._unsigned()
        self.place += size
        return None

    def _list(self, depth: int) -> Sequence[Any]:
        head = self._byte()
        size, kind = head >> 4, head & 15
        return [self._value(kind, depth) for _ in range(self._unsigned() if size == 15 else size)]

    def _byte(self) -> int:
        if self.place >= len(self._content):
            raise Damaged("it ends too early")
        self.place += 1
        return self._content[self.place - 1]

    def _unsigned(self) -> int:
        found = shift = 0
        while shift < 70:
            byte = self._byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found
        raise Damaged("a number has more than 64 bits")

    def _signed(self) -> int:
        found = self._unsigned()
        return (found >> 1) ^ -(found & 1)
