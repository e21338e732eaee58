"""A worker that is idle while work is due exits; other workers do not."""

import os
import time
from pathlib import Path

import pytest

from service.jobs import operations as jobs
from service.shared import broker
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import from_settings
from worker import watchdog
from worker.child_process import Launcher
from worker.worker_state import WorkerState


class Ended(Exception):
    """Raised in place of `os._exit`."""


@pytest.fixture
def worker(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerState:
    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)
    settings = Settings(home=tmp_path, stalled_seconds=0.001)
    return WorkerState(settings, database, from_settings(settings), broker.connect(settings), "wrk_1", Launcher(1024))


def test_only_an_idle_worker_with_due_work_exits(worker: WorkerState, project_id: str) -> None:
    watchdog.exit_if_stalled(worker, "data")
    with worker.database.writer.begin() as session:
        job_id = jobs.create(session, project_id, "t", "data").id
        jobs.create(session, project_id, "t", "train", devices=2)
    watchdog.exit_if_stalled(worker, "train")  # it has one device
    worker.job_id = "job_1"
    watchdog.exit_if_stalled(worker, "data")  # it runs a job
    worker.job_id = None
    worker.idle_since = time.monotonic() + 60
    watchdog.exit_if_stalled(worker, "data")  # it ran a job a moment ago
    worker.idle_since = 0.0
    with pytest.raises(Ended):
        watchdog.exit_if_stalled(worker, "data")
    with worker.database.writer.begin() as session:
        jobs.cancel(session, job_id)
    watchdog.exit_if_stalled(worker, "data")
