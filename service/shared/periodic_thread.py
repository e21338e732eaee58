"""A thread that calls a function periodically."""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.shared.outage_log import DATABASE, Outage

log = structlog.get_logger(__name__)

_faulty = Outage(log, "tick_failed", "tick_recovered")

HANGING_SECONDS = 120.0  # longer than all time-outs of the database together


class PeriodicThread(threading.Thread):
    """Calls `tick` every `seconds` until closed. An error of a tick is logged, and the next tick follows."""

    def __init__(self, name: str, seconds: float, tick: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._tick = tick
        self._closing = threading.Event()
        self._began_at: float | None = None

    def run(self) -> None:
        """The thread's body."""
        while not self._closing.is_set():
            self._began_at = time.monotonic()
            try:
                self._tick()
            except SQLAlchemyError as error:
                DATABASE.failed(self.name, error)
            except Exception as error:  # the next tick must run after any error
                _faulty.failed(self.name, error, trace=True)
            else:
                DATABASE.works(self.name)
                _faulty.works(self.name)
            self._began_at = None
            self._closing.wait(self._seconds)

    def hangs(self) -> bool:
        """Whether the thread has died, or a tick has run for more than HANGING_SECONDS."""
        began_at = self._began_at
        if not self.is_alive():
            return not self._closing.is_set() and self.ident is not None
        return began_at is not None and time.monotonic() - began_at > HANGING_SECONDS

    def close(self) -> None:
        """Stop after the current tick."""
        self._closing.set()
        self.join()
        DATABASE.works(self.name)
        _faulty.works(self.name)
