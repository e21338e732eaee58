"""A reserve file beside a SQLite database. SQLite needs space for its journal even to delete a row.

If other programs fill the disk, the next process that writes releases the reserve. When most of the released space is
used, only deletions may write. The reserve is allocated again when the disk has space.
"""

import contextlib
import os
from pathlib import Path
from typing import Self

import structlog
from sqlalchemy import make_url

from service.shared.errors import StorageFull

log = structlog.get_logger(__name__)


class Reserve:
    """The file `DATABASE-reserve`: full size while the space is reserved, empty after the space was released."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes

    @classmethod
    def beside(cls, database_url: str, size_bytes: int) -> Self | None:
        """The reserve of a SQLite file; None for a database server, which has a disk of its own."""
        url = make_url(database_url)
        if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:") or not size_bytes:
            return None
        return cls(Path(f"{url.database}-reserve"), size_bytes)

    def missing_bytes(self) -> int:
        """The number of bytes that are not reserved."""
        try:
            return max(0, self._size_bytes - self.path.stat().st_size)
        except FileNotFoundError:
            return self._size_bytes

    def release_if_needed(self) -> None:
        """Release the space before a write if the disk is almost full."""
        if self.missing_bytes() < self._size_bytes and self._free_bytes() < self._size_bytes // 4:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.path, 0)
                log.warning("reserve_released", path=str(self.path), bytes=self._size_bytes)

    def check(self) -> None:
        """Raise StorageFull if the rest of the released space is needed for deletions."""
        if self.missing_bytes() and self._free_bytes() < self._size_bytes // 2:
            raise StorageFull("database")

    def allocate(self) -> None:
        """Reserve the space again if as much stays free afterwards."""
        if not self.missing_bytes() or self._free_bytes() < 2 * self._size_bytes:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size_bytes)
        except OSError as error:  # another program has used the space meanwhile
            os.ftruncate(descriptor, 0)
            log.warning("reserve_failed", path=str(self.path), error=str(error))
        finally:
            os.close(descriptor)

    def _free_bytes(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize
