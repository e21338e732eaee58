"""A file object whose content can be read while it is being written, so that a response is sent in pieces."""

import io
from typing import Any


class Sink(io.RawIOBase):
    """Collects written bytes until `take`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """It supports writing; reading and seeking are not supported."""
        return True

    def write(self, data: Any) -> int:
        """Append."""
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        """The number of bytes that were written."""
        return self._written

    def take(self) -> bytes:
        """The bytes that were written since the last call."""
        content = b"".join(self._parts)
        self._parts.clear()
        return content
