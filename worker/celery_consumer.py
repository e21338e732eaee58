"""Being a Celery worker of one queue."""

import logging
import os
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, signals
from celery.worker.consumer.consumer import CONNECTION_ERROR

log = structlog.get_logger(__name__)

PRESENCE_SECONDS = 15.0
CONSUMER, CONNECTION = "celery.worker.consumer.consumer", "celery.worker.consumer.connection"


class OncePerOutage(logging.Filter):
    """Celery says at every attempt that it cannot connect. The first is told, and that it is connected again."""

    def __init__(self) -> None:
        super().__init__()
        self._is_away = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is told."""
        if record.msg == CONNECTION_ERROR:
            repeats, self._is_away = self._is_away, True
            return not repeats
        if record.name == CONNECTION:
            self._is_away = False
        return True


def consume(messages: Celery, queue: str, owner: str, threads: int = 1) -> None:
    """Take messages until SIGTERM."""
    once = OncePerOutage()
    for name in (CONSUMER, CONNECTION):
        logging.getLogger(name).addFilter(once)
    signals.worker_shutting_down.connect(_say_that_it_stops, weak=False)
    # Celery writes to standard output, past all logging, that it stops; nothing else of ours does.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    messages.worker_main(
        [
            "--quiet",
            "worker",
            f"--queues={queue}",
            f"--hostname={owner}@%h",
            "--pool=threads",  # a training is a child process; a pool process could not start one
            f"--concurrency={threads}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


def _say_that_it_stops(how: str, **_: Any) -> None:
    log.info("worker_stops", how=how)
