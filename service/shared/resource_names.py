"""Types for names that users choose: safe in a URL, in a file name and in a log line."""

from typing import Annotated

from pydantic import Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"

# Printable ASCII: PostgreSQL cannot store a zero byte, and UTF-8 has no lone surrogates.
REFERENCE_PATTERN = r"^[ -~]{1,200}$"

MAX_COLUMN_CHARACTERS = 200

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]
"""A name or id of an existing resource."""
# Column names of users' files vary: "Patient ID", "größe", "my.split". PostgreSQL cannot store a zero byte.
ColumnName = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=MAX_COLUMN_CHARACTERS)]
"""The name of a column in a file."""
VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1, description="Number of the version.")]
