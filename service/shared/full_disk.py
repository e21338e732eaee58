"""Which errors say that no space is left to write to, whatever library they come from."""

import errno
import sqlite3

from service.shared.errors import StorageFull

_ERRNO = {errno.ENOSPC, errno.EDQUOT}
# "disk I/O error" is how SQLite reports a journal, or the index of one, that cannot grow.
_SQLITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE}
_POSTGRESQL = "53100"  # disk_full
# Libraries in Rust, such as safetensors, pass the system's error on as text.
_RUST = f"(os error {errno.ENOSPC})"


def tells_of_full(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says so."""
    found: BaseException | None = error
    while found is not None:
        # SQLAlchemy wraps what the driver has raised
        if _is_full(found) or _is_full(getattr(found, "orig", None)):
            return True
        found = found.__cause__ or found.__context__
    return False


def _is_full(error: BaseException | None) -> bool:
    return (
        isinstance(error, StorageFull)
        or (isinstance(error, OSError) and error.errno in _ERRNO)
        or getattr(error, "sqlite_errorcode", None) in _SQLITE
        or getattr(error, "sqlstate", None) == _POSTGRESQL
        or _RUST in str(error)
    )
