"""The supervisor's side of a child process: starts it, reads its events and its log, stops it.

The child's side is `worker.protocol`.
"""

import codecs
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import structlog

from worker.log_lines import JsonLines, as_json

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Start = Callable[[Sequence[str]], subprocess.Popen[bytes]]

CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
READ_SECONDS = 10.0
KILL_SECONDS = 60.0
CHUNK_BYTES = 8192
TAIL_CHARACTERS = 65_536


def start_process(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """`python -m ARGUMENTS` in its own session, so that signals to the worker do not reach it."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


class ChildProcess:
    """A started process, which waits for its spec.

    As a context manager it kills the process at the end of the block.
    """

    def __init__(self, process: subprocess.Popen[bytes], max_log_bytes: int, log_json: bool = False) -> None:
        self._process = process
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._log: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log_bytes_left = max_log_bytes
        self._lines = JsonLines() if log_json else None
        self._has_ended = False
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

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send_spec(self, spec: dict[str, Any]) -> None:
        """Send the spec, which starts the work. Call it once."""
        assert self._process.stdin is not None  # noqa: S101 it was opened as a pipe
        try:
            self._process.stdin.write(json.dumps(spec).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            log.warning("child_start_failed")

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the end. Returns whether the process has ended and all its output was read."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if not self._has_ended:
            self._has_ended = True
            # Processes that it left behind in its session keep the pipes open, and perhaps a GPU busy.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for reader in self._readers:
                reader.join(READ_SECONDS)
        return True

    def events(self) -> list[dict[str, Any]]:
        """The events that arrived since the last call."""
        return _drain(self._events)

    def log(self) -> str:
        """The text that was written to standard error since the last call."""
        return "".join(_drain(self._log))

    def stop(self, grace_seconds: float) -> None:
        """Send SIGTERM; after `grace_seconds` send SIGKILL to the whole session."""
        if self.is_alive() and grace_seconds > 0:
            self._process.terminate()
        if not self.wait(grace_seconds):
            os.killpg(self._process.pid, signal.SIGKILL)
            self.wait(KILL_SECONDS)

    def ending(self) -> str:
        """How the process ended, as the rest of a sentence."""
        status = self._process.returncode
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def crashed(self) -> bool:
        """Whether the process ended by a fault of its own. SIGKILL and SIGTERM come from other processes."""
        return -self._process.returncode in CRASHES

    def _read_events(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            try:
                self._events.put(json.loads(line))
            except ValueError:  # the process was killed in the middle of a line
                log.warning("child_event_rejected", line=line[:200])

    def _read_log(self, pipe: IO[bytes]) -> None:
        """Pass on the first `max_log_bytes`, then only the last characters: a crash says its reason at the end."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        tail, omitted = "", 0
        while chunk := os.read(pipe.fileno(), CHUNK_BYTES):
            text = decoder.decode(chunk).replace("\0", "")
            if self._lines is not None:
                text = self._lines.feed(text)
            if self._log_bytes_left > 0:
                self._log_bytes_left -= len(chunk)
                self._log.put(text)
            else:
                omitted += max(0, len(tail) + len(text) - TAIL_CHARACTERS)
                tail = (tail + text)[-TAIL_CHARACTERS:]
        if omitted:
            note = f"… {omitted} characters are left out here …"
            self._log.put(f"\n{note}\n" if self._lines is None else as_json(note))
        if self._lines is not None:
            tail = (tail.partition("\n")[2] if omitted else tail) + self._lines.end()  # whole lines only
        if tail:
            self._log.put(tail)


class Launcher:
    """Starts the program of a job.

    spare: the module whose process is kept ready. That process has done its imports and waits for its spec.
    start: starts a process from its arguments; tests fork a process that has done its imports.
    """

    def __init__(
        self, max_log_bytes: int, spare: str | None = None, log_json: bool = False, start: Start = start_process
    ) -> None:
        self._max_log_bytes = max_log_bytes
        self._log_json = log_json
        self._spare_module = spare
        self._spare: ChildProcess | None = None
        self._start = start

    def start(self, module: str, devices: int, spec: dict[str, Any]) -> ChildProcess:
        """A process that works on `spec`; with several devices one process each, under `torch.distributed.run`."""
        if devices > 1:
            run = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(devices), "-m", module]
            child = self._child(run)
        elif module == self._spare_module and self._spare is not None and self._spare.is_alive():
            child, self._spare = self._spare, None
        else:
            child = self._child([module])
        child.send_spec(spec)
        return child

    def prepare(self) -> None:
        """Start the spare process, unless one is alive."""
        if self._spare_module is not None and (self._spare is None or not self._spare.is_alive()):
            self.close()
            self._spare = self._child([self._spare_module])

    def close(self) -> None:
        """Stop the spare process."""
        if self._spare is not None:
            with self._spare:
                self._spare = None

    def _child(self, arguments: list[str]) -> ChildProcess:
        return ChildProcess(self._start(arguments), self._max_log_bytes, self._log_json)


def _drain(source: queue.SimpleQueue[Item]) -> list[Item]:
    items = []
    while True:
        try:
            items.append(source.get_nowait())
        except queue.Empty:
            return items
