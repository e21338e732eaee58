"""Runs this process as a Celery worker of one queue."""

import logging
import os
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, signals
from celery.worker.consumer.consumer import CONNECTION_ERROR

log = structlog.get_logger(__name__)

CONSUMER_LOGGER = "celery.worker.consumer.consumer"
CONNECTION_LOGGER = "celery.worker.consumer.connection"


class OncePerOutage(logging.Filter):
    """Keeps one line per outage of the broker. Celery logs every failed attempt to connect."""

    def __init__(self) -> None:
        super().__init__()
        self._is_away = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged: the first failure, and the connection after it."""
        if record.msg == CONNECTION_ERROR:
            is_repeated, self._is_away = self._is_away, True
            return not is_repeated
        if record.name == CONNECTION_LOGGER:
            self._is_away = False
        return True


def consume(messages: Celery, queue: str, owner: str, threads: int = 1) -> None:
    """Take messages until SIGTERM."""
    once_per_outage = OncePerOutage()
    for name in (CONSUMER_LOGGER, CONNECTION_LOGGER):
        logging.getLogger(name).addFilter(once_per_outage)
    signals.worker_shutting_down.connect(_log_shutdown, weak=False)
    # Celery announces its shutdown on standard output, past all logging. Nothing else is written there.
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), 1)
    messages.worker_main(
        [
            "--quiet",
            "worker",
            f"--queues={queue}",
            f"--hostname={owner}@%h",
            "--pool=threads",  # a job is a child process, which a process of Celery's pool could not start
            f"--concurrency={threads}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


def _log_shutdown(how: str, **_: Any) -> None:
    log.info("shutdown_started", how=how)
