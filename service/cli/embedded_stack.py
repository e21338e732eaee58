"""The embedded stack: one command runs the API and its workers on one machine, and stops them together.

It uses SQLite, Celery's filesystem broker, and inference in the API process. Every part is a child process in a new
session. A part exits when its standard input closes, so that it also ends after `kill -9` of this process.
"""

import contextlib
import fcntl
import http.client
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from service.access import operations as access
from service.http.server import listen
from service.shared import broker, migrate
from service.shared.database import Database
from service.shared.disk_reserve import Reserve
from service.shared.errors import SensoriumError, Unauthenticated
from service.shared.settings import Settings

log = structlog.get_logger(__name__)

QUEUES = ("train", "data")
PROJECT = "default"
POLL_SECONDS = 0.2
RESTART_SECONDS = 2.0  # the shortest time between two starts of a part
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
COMMAND_STOP_SECONDS = 5.0
LOCK = "stack.lock"


class StackFailed(SensoriumError):
    """The stack could not be started."""

    def __init__(self, detail: str) -> None:
        super().__init__("stack_failed", detail)


class Part:
    """A child process that is restarted when it exits unexpectedly."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path | None, pass_fd: int | None
    ) -> None:
        self.name = name
        self._log = log
        self._arguments = [sys.executable, "-m", *arguments]
        self._environment = {**os.environ, **environment, "SENSORIUM_EXIT_WITH_STDIN": "true"}
        self._pass_fds = () if pass_fd is None else (pass_fd,)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    def keep_running(self) -> None:
        """Start the process if it is not running."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            if time.monotonic() - self._started_at < RESTART_SECONDS:
                return
            log.warning("part_exited", part=self.name, status=self._process.returncode)
        self._started_at = time.monotonic()
        with contextlib.ExitStack() as files:
            output = files.enter_context(self._log.open("ab")) if self._log else None
            self._process = subprocess.Popen(
                self._arguments,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=self._pass_fds,
                start_new_session=True,
            )

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_until_stopped(self, deadline: float) -> None:
        """Wait until `deadline`, then send SIGKILL."""
        if self._process is None:
            return
        try:
            self._process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            log.warning("part_killed", part=self.name)
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def serve(settings: Settings, fresh: bool, command: str | None) -> int:
    """Run the stack until SIGINT or SIGTERM, or until `command` exits. Returns the exit status.

    `fresh` empties the home folder first. `command` runs with SENSORIUM_URL and SENSORIUM_API_KEY set. Only `command`
    writes to the terminal then; the parts log to files.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    if fresh:
        _check_is_stack_home(settings.home)
    with _locked(settings.home) as lock, listen(settings.host, settings.port) as listener:
        if fresh:
            _empty(settings.home, lock)
        # Unfinished files of killed processes. The lock excludes other writers.
        for unfinished in (settings.artifacts / "tmp", settings.scratch):
            shutil.rmtree(unfinished, ignore_errors=True)
        if (reserve := Reserve.beside(settings.database_url, settings.reserve_bytes)) is not None:
            reserve.release_if_needed()
        migrate.upgrade(settings.database_url)
        key = _first_key(settings)
        broker.declare(settings)
        port = listener.getsockname()[1]
        environment = {"SENSORIUM_HOME": str(settings.home.absolute())}
        logs = {name: settings.home / f"{name}.log" if command else None for name in ("api", *QUEUES)}
        api = ["service.cli", "api", "--listener", str(listener.fileno())]
        parts = [Part("api", api, environment, logs["api"], listener.fileno())]
        for queue in QUEUES:
            parts.append(Part(f"{queue} worker", ["service.cli", "worker", queue], environment, logs[queue], None))
        try:
            return _run(settings, parts, port, key, command, stopping)
        finally:
            for part in parts:
                part.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for part in parts:
                part.wait_until_stopped(deadline)


def _check_is_stack_home(home: Path) -> None:
    """Raise StackFailed for a folder that must not be emptied: it has files, but no lock file of a stack."""
    if home.exists() and not (home / LOCK).exists() and any(home.iterdir()):
        detail = "expected an empty folder or the home of a stack; choose another folder, or empty it yourself"
        raise StackFailed(f"{home} has files of other programs, {detail}")


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[Path]:
    """Lock a home folder against other stacks. Yields the lock file, which also marks the folder as a stack's home."""
    lock = home / LOCK
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # it holds data, logs and a key
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackFailed(f"another stack runs in {home}; stop it, or choose another folder") from error
        yield lock


def _empty(home: Path, lock: Path) -> None:
    for entry in home.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry != lock:
            entry.unlink()


def _run(
    settings: Settings, parts: Sequence[Part], port: int, key: str, command: str | None, stopping: threading.Event
) -> int:
    url = f"http://{settings.host}:{port}"
    for part in parts:
        part.keep_running()
    deadline = time.monotonic() + READY_SECONDS
    while not stopping.is_set() and not _ready(settings.host, port):
        if time.monotonic() > deadline:
            raise StackFailed(f"{url} was not ready within {READY_SECONDS:.0f} s; see the log of the API")
        stopping.wait(POLL_SECONDS)
    if stopping.is_set():
        return _status_after_signal(command)
    if settings.log_json:
        log.info("stack_started", url=url, key_file=str(_key_file(settings)))
    else:
        print(f"Sensorium listens on {url}; the first API key is in {_key_file(settings)}", flush=True)  # noqa: T201
    environment = {**os.environ, "SENSORIUM_URL": url, "SENSORIUM_API_KEY": key}
    child = subprocess.Popen(shlex.split(command), env=environment) if command else None
    try:
        while not stopping.wait(POLL_SECONDS):
            for part in parts:
                part.keep_running()
            if child is not None and child.poll() is not None:
                return child.returncode
    finally:
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(COMMAND_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return _status_after_signal(command)


def _status_after_signal(command: str | None) -> int:
    """The exit status after SIGINT or SIGTERM: success for a server, failure for an interrupted `command`."""
    return 128 + signal.SIGINT if command else 0


def _ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _first_key(settings: Settings) -> str:
    """The key in the home folder. If the database does not know it, create a key, and the project if it is missing."""
    file = _key_file(settings)
    database = Database(settings.database_url, settings.reserve_bytes)
    try:
        with database.writer.begin() as session:
            if file.exists():
                with contextlib.suppress(Unauthenticated):
                    token = file.read_text().strip()
                    access.authenticate(session, token)
                    return token
            project = access.find_project(session, PROJECT) or access.create_project(session, PROJECT, operates=True)
            _, token = access.create_key(session, project.id, "first key")
    finally:
        database.close()
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(token + "\n")
    return token


def _key_file(settings: Settings) -> Path:
    return settings.home / "api-key"
