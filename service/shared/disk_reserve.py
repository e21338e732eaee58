"""Bytes held in a file beside a SQLite database, which cannot delete a row without space for its journal.

When others have filled the disk, a process that is about to write gives them up; once little of them is left, only
deletions may write. They are held again when there is space.
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
    """The file `DATABASE-reserve`: of its full size while it holds the bytes, empty once it gave them up."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes

    @classmethod
    def beside(cls, database_url: str, size_bytes: int) -> Self | None:
        """The reserve of a SQLite file; None for a server, whose disk is not ours."""
        url = make_url(database_url)
        if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:") or not size_bytes:
            return None
        return cls(Path(f"{url.database}-reserve"), size_bytes)

    def missing_bytes(self) -> int:
        """How much it does not hold."""
        try:
            return max(0, self._size_bytes - self.path.stat().st_size)
        except FileNotFoundError:
            return self._size_bytes

    def give_up_if_needed(self) -> None:
        """Before a write: free the bytes when the disk has hardly any others."""
        if self.missing_bytes() < self._size_bytes and self._free_bytes() < self._size_bytes // 4:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.path, 0)
                log.warning("reserve_given_up", path=str(self.path), bytes=self._size_bytes)

    def check(self) -> None:
        """Raise StorageFull when what is left of it is needed for deletions."""
        if self.missing_bytes() and self._free_bytes() < self._size_bytes // 2:
            raise StorageFull("database")

    def hold(self) -> None:
        """Hold the bytes again, where that leaves as many free."""
        if not self.missing_bytes() or self._free_bytes() < 2 * self._size_bytes:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size_bytes)
        except OSError as error:  # somebody else was faster
            os.ftruncate(descriptor, 0)
            log.warning("reserve_not_held", path=str(self.path), error=str(error))
        finally:
            os.close(descriptor)

    def _free_bytes(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize
