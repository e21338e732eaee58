"""What a conversion inferred from the data, and what it doubts. A version with warnings is ready all the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataWarning:
    """One inference or doubt. `column` is the column of the file that it is about, None for the whole file."""

    code: str
    detail: str
    column: str | None = None
