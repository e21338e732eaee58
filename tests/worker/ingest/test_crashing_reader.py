"""A file that crashes its reader is rejected at the first attempt, and the worker continues."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from service.datasets import formats
from service.jobs.tables import Job
from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.service.steps import queue_dataset, upload

MODULE = """
import os
from service.datasets.formats import Format

FORMAT = Format(
    name="crash", title="CRASH", suffixes=(".crash",), media_type="text/plain",
    recognises=lambda first: first.startswith(b"CRASH"), reader="crash_format:read",
)

def read(path, declaration, options):
    os.write(2, b"the reader aborts here")
    os.abort()
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with a format whose reader aborts; its child processes know it too."""
    folder = tmp_path / "package"
    information = folder / "crash_format-1.dist-info"
    information.mkdir(parents=True)
    (folder / "crash_format.py").write_text(MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: crash-format\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[{formats.FORMATS_GROUP}]\ncrash = crash_format:FORMAT\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
        formats.registered.cache_clear()
        with running(Settings(home=tmp_path / "home", heartbeat_seconds=0.2, retry_seconds=0)) as service:
            yield service
    formats.registered.cache_clear()


def test_file_over_which_the_reader_aborts_is_rejected_at_the_first_attempt(service: Service) -> None:
    body = {"name": "hostile", "source": {"upload": upload(service, b"CRASH\n")}}
    assert service.http.post("/v1/datasets", json=body).status_code == 201
    queue_dataset(service, "harmless", x=np.ones((2, 1), np.float32))
    service.work("data")
    hostile = service.http.get("/v1/datasets/hostile/versions/1").json()
    assert hostile["state"] == "rejected"
    (error,) = hostile["errors"]
    assert (error["pointer"], error["code"]) == ("", "reader_crashed")
    assert error["detail"].startswith("the process that reads the file was killed by SIGABRT: the file is damaged, or")
    with service.worker.database.reader() as session:
        attempts = session.scalars(select(Job.attempt).order_by(Job.id)).all()
    assert attempts == [1, 1]
    assert service.http.get("/v1/datasets/harmless/versions/1").json()["state"] == "ready"
