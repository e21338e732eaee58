"""Classifies errors of the database: an outage, a rejected statement, or missing tables."""

import sqlite3

from sqlalchemy.exc import DBAPIError

# Too many variables, too deep expressions, too long texts: a retry of the statement fails again.
_SQLITE_REFUSES = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)
_POSTGRESQL_REFUSES = "54"  # the class of "program limit exceeded"
_POSTGRESQL_LACKS = ("42P01", "42703")  # undefined table, undefined column


def is_outage(error: Exception) -> bool:
    """Whether a retry may succeed."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF not in _SQLITE_REFUSES
    return not (getattr(cause, "sqlstate", None) or "").startswith(_POSTGRESQL_REFUSES)


def lacks_schema(error: Exception) -> bool:
    """Whether a table or a column is missing, as before a migration."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):  # SQLite has the same code for all faulty statements
        return str(cause).startswith(("no such table", "no such column"))
    return getattr(cause, "sqlstate", None) in _POSTGRESQL_LACKS
