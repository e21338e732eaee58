"""Writes a file into the store: hashed while it is written, synced, then renamed to the name of its content."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ulid import ULID

from service.shared.disk_space import Space
from service.shared.storage.artifact import Stored

CHECKED_BYTES = 1024 * 1024
"""The space of the disk is checked each time that this much was written."""


class Writer:
    """A new file, which exists within the `with` block. `keep` gives it its final name."""

    def __init__(self, folder: Path, project_id: str, space: Space, keep: Callable[[Path, Stored], Stored]) -> None:
        self.path = folder / str(ULID())
        self.size_bytes = 0
        self._project_id = project_id
        self._space = space
        self._keep = keep
        self._digest = hashlib.sha256()
        self._file: BinaryIO

    def __enter__(self) -> Self:
        """Create the file. Raises StorageFull."""
        self._space.check()
        self._file = self.path.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # no space for what is still buffered
            self._file.close()
        self.path.unlink(missing_ok=True)

    def expect(self, size_bytes: int) -> None:
        """Raise StorageFull if there is no space for a file of this size."""
        self._space.check(size_bytes)

    def write(self, piece: bytes | bytearray) -> None:
        """Append to the file. Raises StorageFull."""
        if self.size_bytes // CHECKED_BYTES != (self.size_bytes + len(piece)) // CHECKED_BYTES:
            self._space.check()
        self._file.write(piece)
        self._digest.update(piece)
        self.size_bytes += len(piece)

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()

    def flush(self) -> None:
        """Make what was written so far visible to readers of `path`."""
        self._file.flush()

    def commit(self) -> Stored:
        """Make the file durable under its final name. Its row is added after this."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._keep(self.path, Stored(self._project_id, self.sha256, self.size_bytes))
