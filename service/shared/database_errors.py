"""What an error of the database means: it is away, it does not take a statement, or it lacks tables of ours."""

import sqlite3

from sqlalchemy.exc import DBAPIError

# Too many variables, expressions too deep, text too long: the same statement fails again.
_SQLITE_REFUSES = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)
_POSTGRESQL_REFUSES = "54"  # the class of "program limit exceeded"
_POSTGRESQL_LACKS = ("42P01", "42703")  # undefined table, undefined column


def is_outage(error: Exception) -> bool:
    """Whether trying again may help."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF not in _SQLITE_REFUSES
    return not (getattr(cause, "sqlstate", None) or "").startswith(_POSTGRESQL_REFUSES)


def lacks_schema(error: Exception) -> bool:
    """Whether a table or a column is missing, as in a database that was not migrated."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):  # SQLite has one code for everything that is wrong with a statement
        return str(cause).startswith(("no such table", "no such column"))
    return getattr(cause, "sqlstate", None) in _POSTGRESQL_LACKS
