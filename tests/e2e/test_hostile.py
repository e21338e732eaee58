"""Hostile uploads to a running stack: each is refused with a reason, and has no other effect."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.e2e.stack import Caller
from tests.hostile import corpus
from tests.servers import free_port

MIB = 1024**2
LIMITS = {"SENSORIUM_UPLOAD_BYTES": str(4 * MIB), "SENSORIUM_UNPACKED_BYTES": str(64 * MIB)}
MAX_ANONYMOUS_BYTES = 400 * MIB
# These are valid: flipped bytes may be in unused parts of the file, and a pickled type may sit beside a plain list.
MAY_BE_READ = (
    "parquet: footer flipped",
    "parquet: pages flipped",
    "parquet: a pickled type",
    "npz: categories without end",  # two distinct values are two categories, whatever their size
)
ENDED = ("ready", "rejected", "failed", "cancelled")


@contextmanager
def _stack(home: Path) -> Iterator[Caller]:
    port = free_port()
    command = [sys.executable, "-m", "service.cli", "serve", "--home", str(home), "--port", str(port)]
    with (home.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **LIMITS}, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        assert b"listens" in process.stdout.readline()
        yield Caller(f"http://127.0.0.1:{port}", (home / "api-key").read_text().strip())
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0


class _Memory(threading.Thread):
    """Samples the largest anonymous memory of any process of a stack."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.over = threading.Event()
        self._mark = f"SENSORIUM_HOME={home}".encode()

    def run(self) -> None:
        while not self.over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if self._mark in (process / "environ").read_bytes():
                        lines = (process / "status").read_text().splitlines()
                        self.peak = max([self.peak, *(int(s.split()[1]) * 1024 for s in lines if "RssAnon" in s)])
                except OSError:
                    continue


@pytest.mark.slow
def test_hostile_files_are_refused_and_leave_no_files(tmp_path: Path) -> None:
    home, files = tmp_path / "home", corpus()
    assert len(files) >= 60
    wrong, uploads = [], []
    with _stack(home) as caller:
        memory = _Memory(home)
        memory.start()
        versions = {}
        for number, (name, content) in enumerate(files.items()):
            answer = caller.http.post("/v1/uploads", content=content)
            if answer.status_code == 201:
                uploads.append(answer.json()["id"])
                body = {"name": f"d{number}", "source": {"upload": uploads[-1]}}
                answer = caller.http.post("/v1/datasets", json=body)
            if answer.status_code == 201:
                versions[name] = f"/v1/datasets/d{number}/versions/1"
            elif answer.status_code != 422 or not answer.json()["errors"]:
                wrong.append((name, answer.text))
        for name, path in versions.items():
            wait_until(lambda path=path: caller.call("GET", path)["state"] in ENDED, 120, name)
            version = caller.call("GET", path)
            refused = version["state"] == "rejected" and version["errors"] and len(version["detail"]) < 2000
            if not refused and not (version["state"] == "ready" and name.startswith(MAY_BE_READ)):
                wrong.append((name, version))
            caller.http.delete(f"/v1/datasets/{path.split('/')[3]}?force=true&purge=true").raise_for_status()
        for upload in dict.fromkeys(uploads):
            caller.http.delete(f"/v1/uploads/{upload}").raise_for_status()
        wait_until(lambda: _left(home) == [], 30, "nothing left")
        memory.over.set()
        assert caller.call("GET", "/readyz")["status"] == "ok"
    log = (tmp_path / "log").read_text()
    assert wrong == []
    assert "Traceback" not in log
    assert "stranger's pickle" not in log
    assert memory.peak < MAX_ANONYMOUS_BYTES


def _left(home: Path) -> list[str]:
    return [str(path) for folder in ("artifacts", "scratch") for path in (home / folder).rglob("*") if path.is_file()]
