"""Whether an error of the database means that it is away, or only that it does not take a statement."""

import sqlite3

from sqlalchemy.exc import DBAPIError

# Too many variables, expressions too deep, text too long: the same statement fails again.
_SQLITE_REFUSES = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)
_POSTGRESQL_REFUSES = "54"  # the class of "program limit exceeded"


def is_outage(error: Exception) -> bool:
    """Whether trying again may help."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF not in _SQLITE_REFUSES
    return not (getattr(cause, "sqlstate", None) or "").startswith(_POSTGRESQL_REFUSES)
