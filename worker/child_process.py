"""The supervisor's side of a supervised process: starts it, hears its events and its log, stops it."""

import codecs
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import structlog

from worker.log_lines import JsonLines, as_json

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
READ_SECONDS = 10.0
PIECE_BYTES = 8192
TAIL_CHARACTERS = 65_536


class ChildProcess:
    """A process in a session of its own, so that a signal to the worker does not reach it. It waits for its spec."""

    def __init__(self, arguments: Sequence[str], max_log_bytes: int, log_json: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._log: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log_bytes_left = max_log_bytes
        self._lines = JsonLines() if log_json else None
        self._ended = False
        self._readers = [
            threading.Thread(target=self._read_events, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(0)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def wait(self, seconds: float) -> bool:
        """Whether the process has ended and all it said was read, waiting up to `seconds` for that."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if not self._ended:
            self._ended = True
            # What it left running in its session holds the pipes open, and perhaps a card.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for reader in self._readers:
                reader.join(READ_SECONDS)
        return True

    def events(self) -> list[dict[str, Any]]:
        """What the process has reported since this was asked last."""
        return _drain(self._events)

    def log(self) -> str:
        """What the process has written to its standard error since this was asked last."""
        return "".join(_drain(self._log))

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL to its whole session after the grace."""
        if self._process.poll() is None and grace_seconds > 0:
            self._process.terminate()
        if not self.wait(grace_seconds):
            os.killpg(self._process.pid, signal.SIGKILL)
            self.wait(60)

    def ending(self) -> str:
        """How the process ended, in words."""
        status = self._process.returncode
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def crashed(self) -> bool:
        """Whether a fault of the process itself ended it; SIGKILL and SIGTERM come from elsewhere."""
        return -self._process.returncode in CRASHES

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def give(self, spec: dict[str, Any]) -> None:
        """Send the spec, once: the work begins."""
        assert self._process.stdin is not None  # noqa: S101 it was opened as a pipe
        try:
            self._process.stdin.write(json.dumps(spec).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            log.warning("child_ended_before_its_spec")

    def _read_events(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            try:
                self._events.put(json.loads(line))
            except ValueError:  # the process was killed in the middle of a line
                log.warning("child_event_unreadable", line=line[:200])

    def _read_log(self, pipe: IO[bytes]) -> None:
        """Hand on the first `max_log_bytes`, then keep what comes last: that is where a crash says why."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        tail, left_out = "", 0
        while piece := os.read(pipe.fileno(), PIECE_BYTES):
            text = decoder.decode(piece).replace("\0", "")
            if self._lines is not None:
                text = self._lines.feed(text)
            if self._log_bytes_left > 0:
                self._log_bytes_left -= len(piece)
                self._log.put(text)
            else:
                left_out += max(0, len(tail) + len(text) - TAIL_CHARACTERS)
                tail = (tail + text)[-TAIL_CHARACTERS:]
        if left_out:
            told = f"… {left_out} characters are left out here …"
            self._log.put(f"\n{told}\n" if self._lines is None else as_json(told))
        if self._lines is not None:
            tail = (tail.partition("\n")[2] if left_out else tail) + self._lines.end()  # whole lines
        if tail:
            self._log.put(tail)


def _drain(source: queue.SimpleQueue[Item]) -> list[Item]:
    items = []
    while True:
        try:
            items.append(source.get_nowait())
        except queue.Empty:
            return items
