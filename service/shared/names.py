"""The names that users give: safe in a URL, in a file name and in a log line."""

from typing import Annotated

from pydantic import StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
