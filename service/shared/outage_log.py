"""Logs the begin and the end of an outage once each, however often an operation is retried meanwhile."""

import time
from threading import Lock
from typing import Any

import structlog


class Outage:
    """Logs a warning when the first part fails, and an info line when all parts work again; repetitions at DEBUG.

    began, ended: the names of the two events.
    """

    def __init__(self, log: Any, began: str, ended: str) -> None:
        self._log = log
        self._began = began
        self._ended = ended
        self._failing: set[str] = set()
        self._since = 0.0
        self._failures = 0
        self._lock = Lock()

    def failed(self, part: str, error: BaseException, *, trace: bool = False, **fields: Any) -> None:
        """Record a failed attempt. trace: log the traceback, for errors of the program."""
        with self._lock:
            begins = not self._failing
            if begins:
                self._since, self._failures = time.monotonic(), 0
            self._failing.add(part)
            self._failures += 1
        write = self._log.warning if begins else self._log.debug
        write(self._began, part=part, error=str(error), **fields, **({"exc_info": error} if trace else {}))

    def works(self, part: str) -> None:
        """Record a successful attempt, or the end of all attempts."""
        if part not in self._failing:  # the usual case, without the lock
            return
        with self._lock:
            self._failing.discard(part)
            ends = not self._failing
        if ends:
            self._log.info(self._ended, seconds=round(time.monotonic() - self._since, 1), failures=self._failures)


REQUESTS = "requests"
DATABASE = Outage(structlog.get_logger(__name__), "database_failed", "database_recovered")
"""The outage of the database, for all threads and requests of a process. The reconciler ends the part REQUESTS."""
