"""Events as they are sent to listeners, and which of them a listener wants."""

from dataclasses import dataclass
from datetime import datetime

from service.shared.period import ANY_TIME, Period


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a channel. frame: the event in the format of server-sent events."""

    id: int
    type: str
    resource_type: str
    resource_id: str
    created_at: datetime
    frame: bytes


@dataclass(frozen=True)
class Filters:
    """Selects events of any of the types, of one resource, and of a period.

    hidden: the types of resources whose events are left out.
    """

    types: frozenset[str] = frozenset()
    resource: str | None = None
    period: Period = ANY_TIME
    hidden: frozenset[str] = frozenset()

    def match(self, entry: Entry) -> bool:
        """Whether an event is selected."""
        return (
            (not self.types or entry.type in self.types)
            and (self.resource is None or entry.resource_id == self.resource)
            and (self.period.after is None or entry.created_at >= self.period.after)
            and (self.period.before is None or entry.created_at < self.period.before)
            and entry.resource_type not in self.hidden
        )


ALL = Filters()


def frame(id: int, type: str, json: str) -> bytes:
    """An event in the format of server-sent events. json: on one line."""
    return f"event: {type}\ndata: {json}\nid: {id}\n\n".encode()
