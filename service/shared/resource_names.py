"""The names that users give: safe in a URL, in a file name and in a log line."""

from typing import Annotated

from pydantic import StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"

# Printable ASCII: PostgreSQL keeps no zero byte and UTF-8 no half of a surrogate pair.
REFERENCE_PATTERN = r"^[ -~]{1,200}$"

MAX_COLUMN_CHARACTERS = 200

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]
"""A name or id that somebody gives to find something by."""
# Files come from elsewhere: "Patient ID", "größe" and "my.split" are columns. PostgreSQL keeps no zero byte.
ColumnName = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=MAX_COLUMN_CHARACTERS)]
"""A column of a file, as the file calls it."""
