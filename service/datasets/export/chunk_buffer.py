"""A file that is written to and emptied in turns, so that an answer can be sent while it is made."""

import io
from typing import Any


class Sink(io.RawIOBase):
    """Collects what writers write; `take` hands it on."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """It can be written to, and neither read nor moved in."""
        return True

    def write(self, data: Any) -> int:
        """Append."""
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        """How much was written."""
        return self._written

    def take(self) -> bytes:
        """All that was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
