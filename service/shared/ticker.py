"""A thread that does one thing again and again."""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger(__name__)


class Ticker(threading.Thread):
    """Calls `tick` every `seconds` until closed. A database that is away is waited for."""

    def __init__(self, name: str, seconds: float, tick: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._tick = tick
        self._closing = threading.Event()

    def run(self) -> None:
        """The thread's body."""
        while not self._closing.is_set():
            try:
                self._tick()
            except SQLAlchemyError as error:
                log.warning("database_unreachable", ticker=self.name, error=str(error))
            except Exception:  # one bad tick must not be the last
                log.exception("tick_failed", ticker=self.name)
            self._closing.wait(self._seconds)

    def close(self) -> None:
        """Stop after the tick that is under way."""
        self._closing.set()
        self.join()
