"""Registers this process in SQL, where `GET /v1/workers` lists the workers that are alive."""

import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from service.jobs import live_workers
from service.shared.database import Database
from service.shared.settings import Settings
from worker.versions import library_versions

# Well below service.jobs.live_workers.ALIVE_SECONDS: three may be lost.
BEAT_SECONDS = 15.0


@contextmanager
def registered(database: Database, settings: Settings, queue: str) -> Iterator[str]:
    """The id under which this process holds jobs. At the end of the block the worker has stopped."""
    versions = {"python": platform.python_version(), **library_versions()}
    with database.writer.begin() as session:
        owner = live_workers.register(session, socket.gethostname(), os.getpid(), queue, settings.devices, versions)
    try:
        yield owner
    finally:
        with database.writer.begin() as session:
            live_workers.unregister(session, owner)


def beat(database: Database, owner: str, job_id: str | None) -> None:
    """Record in SQL that this process is alive, and its current job."""
    with database.writer.begin() as session:
        live_workers.beat(session, owner, job_id)
