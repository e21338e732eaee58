"""The time filters of lists: what was created from one time on, and before another."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Field
from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute
from ulid import ULID

# Ids contain the milliseconds since 1970. The upper bound stays within year 9999 in every time zone.
Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9999, 12, 30, tzinfo=UTC))]
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
