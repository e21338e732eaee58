"""Logs once that something fails that is tried again and again, and once that it works again."""

import time
from threading import Lock
from typing import Any

import structlog


class Outage:
    """Logs a warning when the first of its `parts` fails, and a line when all work again; repetitions at DEBUG.

    began, ended: names of the two events.
    """

    def __init__(self, log: Any, began: str, ended: str) -> None:
        self._log = log
        self._began = began
        self._ended = ended
        self._failing: set[str] = set()
        self._since = 0.0
        self._failures = 0
        self._lock = Lock()

    def failed(self, part: str, error: BaseException, *, trace: bool = False, **about: Any) -> None:
        """An attempt failed. `trace`: the error is a fault of ours, whose place has to be known."""
        with self._lock:
            begins = not self._failing
            if begins:
                self._since, self._failures = time.monotonic(), 0
            self._failing.add(part)
            self._failures += 1
        say = self._log.warning if begins else self._log.debug
        say(self._began, part=part, error=str(error), **about, **({"exc_info": error} if trace else {}))

    def works(self, part: str) -> None:
        """An attempt succeeded, or nobody tries any more."""
        if part not in self._failing:  # the usual case, without the lock
            return
        with self._lock:
            self._failing.discard(part)
            ends = not self._failing
        if ends:
            self._log.info(self._ended, seconds=round(time.monotonic() - self._since, 1), failures=self._failures)


REQUESTS = "requests"
DATABASE = Outage(structlog.get_logger(__name__), "database_unreachable", "database_reachable_again")
"""The database, for all tickers and requests of the process. The reconciler ends the outage of the part REQUESTS."""
