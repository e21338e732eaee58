"""Real `infer` workers in processes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select

from service.jobs.tables import Worker
from service.shared.broker import INFER
from service.shared.database import Database
from service.shared.settings import Settings
from tests import fork_server
from tests.conftest import wait_until

STOP_SECONDS = 15


@contextmanager
def infer_worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A registered worker, stopped at the end."""
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(settings.home),
        "SENSORIUM_DATABASE": settings.database_url,
        "SENSORIUM_BROKER": settings.broker,
        "SENSORIUM_INFERENCE_BACKEND": "celery",
        "SENSORIUM_EXIT_WITH_STDIN": "true",
    }
    with (settings.home / "infer.log").open("ab") as log:
        process = fork_server.run("worker.app", INFER, env=environment, log=log)
    database = Database(settings.database_url)
    try:
        wait_until(lambda: _is_registered(database, process.pid), 60, "the infer worker has registered")
        yield process
    finally:
        database.close()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_registered(database: Database, pid: int) -> bool:
    with database.reader() as session:
        return session.scalar(select(Worker.id).where(Worker.pid == pid, Worker.stopped_at.is_(None))) is not None
