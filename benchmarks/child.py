"""Runs one of the worker's programs as a supervisor does, and watches its time and its memory."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple


class Ran(NamedTuple):
    """What a program took, and what it said when it had finished."""

    seconds: float
    peak_anonymous_bytes: int
    finished: dict[str, Any]


def run(program: str, spec: dict[str, Any], cores: set[int] | None = None) -> Ran:
    """Run `python -m PROGRAM` with a spec, on these cores only. Ends the benchmark when it does not finish."""
    ours, theirs = os.pipe()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)  # a child has its parent's
    started_at = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", program], stdin=ours, stdout=subprocess.PIPE)
    os.sched_setaffinity(0, before)
    os.close(ours)
    os.write(theirs, json.dumps(spec).encode() + b"\n")  # it ends when this end is closed
    events, peak = b"", 0
    assert process.stdout is not None  # noqa: S101 it is a pipe
    os.set_blocking(process.stdout.fileno(), False)
    while process.poll() is None:
        peak = max(peak, kilobytes(Path(f"/proc/{process.pid}/status"), "RssAnon") * 1024)
        events += process.stdout.read() or b""
        time.sleep(0.02)
    seconds = time.monotonic() - started_at
    os.close(theirs)
    events += process.stdout.read() or b""
    last = json.loads(events.splitlines()[-1])
    if process.returncode or last["event"] != "finished":
        raise SystemExit(f"{program} ended with status {process.returncode}: {last}")
    return Ran(seconds, peak, last)


class Memory(threading.Thread):
    """Watches the resident memory of a process until `over` is set."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.over = threading.Event()
        self._status = Path(f"/proc/{pid}/status")

    def run(self) -> None:
        """Look every 20 ms."""
        while not self.over.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, kilobytes(self._status, "VmRSS") * 1024)


def kilobytes(path: Path, name: str) -> int:
    """A figure of a /proc file, 0 for a process that has just ended."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return next((int(words[1]) for words in lines if words and words[0] == f"{name}:"), 0)
