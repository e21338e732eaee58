"""The time filters of lists: what was created from one time on, and before another."""

import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticKnownError
from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute
from ulid import ULID

# Ids contain the milliseconds since 1970. The upper bound stays within year 9999 in every time zone.
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE)


def _in_text(value: Any) -> Any:
    """A time in RFC 3339, as the document says. Pydantic also reads numbers, and texts of numbers."""
    if isinstance(value, int | float):
        raise PydanticKnownError("datetime_type")
    if not isinstance(value, str):
        return value
    if not _RFC_3339.fullmatch(value):
        raise PydanticKnownError("datetime_parsing", {"error": "not in RFC 3339"})
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(value.upper())
    return value


def _within_bounds(moment: datetime) -> datetime:
    """The nearest time that an id can have: nothing was created before or after."""
    return min(max(moment, FIRST), LAST)


Moment = Annotated[AwareDatetime, BeforeValidator(_in_text), AfterValidator(_within_bounds)]
# Ids have the time of the process that creates a row, `created_at` has the time of the database.
MAX_CLOCK_DIFFERENCE = timedelta(minutes=10)


class Period(NamedTuple):
    """From `after` on, and before `before`; None is no bound."""

    after: datetime | None = None
    before: datetime | None = None

    def of(self, created_at: InstrumentedAttribute[datetime]) -> list[ColumnElement[bool]]:
        """Conditions for rows that were created in this period."""
        conditions: list[ColumnElement[bool]] = []
        if self.after is not None:
            conditions.append(created_at >= self.after)
        if self.before is not None:
            conditions.append(created_at < self.before)
        return conditions

    def of_ids(
        self, created_at: InstrumentedAttribute[datetime], ids: InstrumentedAttribute[str], prefix: str
    ) -> list[ColumnElement[bool]]:
        """As `of`, for rows whose ids sort by time: an index of the ids leads to the period, `created_at` is exact."""
        conditions = self.of(created_at)
        if self.after is not None:
            conditions.append(ids >= _smallest_id(prefix, self.after - MAX_CLOCK_DIFFERENCE))
        if self.before is not None:
            conditions.append(ids < _smallest_id(prefix, self.before + MAX_CLOCK_DIFFERENCE))
        return conditions


ANY_TIME = Period()


def _smallest_id(prefix: str, time: datetime) -> str:
    milliseconds = max(0, int(time.timestamp() * 1000))
    return f"{prefix}_{ULID(milliseconds.to_bytes(6, 'big') + bytes(10))}"
