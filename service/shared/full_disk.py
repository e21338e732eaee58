"""Recognises errors of all libraries that mean "no space left"."""

import errno
import sqlite3

from service.shared.errors import StorageFull

_ERRNO = {errno.ENOSPC, errno.EDQUOT}
# SQLite reports "disk I/O error" if its journal, or the index of the journal, cannot grow.
_SQLITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE}
_POSTGRESQL = "53100"  # disk_full
# Rust libraries, such as safetensors, put the system's error code into the text.
_RUST = f"(os error {errno.ENOSPC})"


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one of its causes, means that no space is left."""
    cause: BaseException | None = error
    while cause is not None:
        # SQLAlchemy keeps the driver's error in `orig`
        if _is_full(cause) or _is_full(getattr(cause, "orig", None)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _is_full(error: BaseException | None) -> bool:
    return (
        isinstance(error, StorageFull)
        or (isinstance(error, OSError) and error.errno in _ERRNO)
        or getattr(error, "sqlite_errorcode", None) in _SQLITE
        or getattr(error, "sqlstate", None) == _POSTGRESQL
        or _RUST in str(error)
    )
