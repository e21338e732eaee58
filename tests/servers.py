"""Real PostgreSQL, Redis and S3 servers of the tests' own, on free ports."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

START_SECONDS = 60
# Below the ports that the system hands out by itself. Each process of a run has a range of its own, and begins at a
# place in it that other runs on the same machine hardly share.
FIRST_PORT, PORTS = 10_000, 1_500
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 14
_ports = itertools.cycle(FIRST_PORT + _worker * PORTS + (os.getpid() * 97 + place) % PORTS for place in range(PORTS))


def free_port() -> int:
    """A port without a listener, which no other test gets."""
    for port in itertools.islice(_ports, PORTS):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError(f"none of {PORTS} ports is free")


def is_open(port: int) -> bool:
    """Whether a process listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def postgresql_binaries() -> Path | None:
    """The folder of initdb and postgres, which Debian keeps off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def redis_binary() -> str | None:
    """The redis-server program."""
    return shutil.which("redis-server")


class Server:
    """A server process that can be stopped in any way and started again with what it has kept."""

    def __init__(self, command: list[str | Path], folder: Path, user: str, answers: Callable[[], object]) -> None:
        self._command = command
        self._folder = folder
        self._user = user
        self._answers = answers
        self.process = self._started()

    def restart(self, how: signal.Signals) -> None:
        """Stop it with this signal, and start it again."""
        self.process.send_signal(how)
        self.process.wait()
        self.process = self._started()

    def wait_until_ready(self) -> None:
        """Wait until it answers."""
        _wait_for(self._answers)

    def _started(self) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(self._command, user=self._user, cwd=self._folder, stdout=log, stderr=log)


@contextmanager
def postgresql() -> Iterator[str]:
    """A running server; yields the SQLAlchemy URL of its maintenance database."""
    with postgresql_process() as (url, _):
        yield url


@contextmanager
def postgresql_process() -> Iterator[tuple[str, Server]]:
    """A running server and its process.

    Its files stand outside of pytest's folders, which pytest closes to other users whenever a session starts.
    """
    binaries = postgresql_binaries()
    assert binaries is not None
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="sensorium-postgresql-") as name:
        folder = Path(name)
        shutil.chown(folder, user)
        data, port = folder / "data", free_port()
        initdb = [binaries / "initdb", "-D", data, "-U", "sensorium", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        connection = {"host": "127.0.0.1", "port": port, "user": "sensorium", "dbname": "postgres"}
        command = [binaries / "postgres", "-D", data, "-p", str(port), *options]
        server = Server(command, folder, user, lambda: psycopg.connect(**connection).close())
        try:
            server.wait_until_ready()
            yield f"postgresql+psycopg://sensorium@127.0.0.1:{port}/postgres", server
        finally:
            server.process.send_signal(signal.SIGINT)  # after SIGTERM it waits until every client has gone
            server.process.wait()


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A running server without persistence; yields its URL."""
    with redis_process(folder) as (url, _):
        yield url


@contextmanager
def redis_process(folder: Path) -> Iterator[tuple[str, Server]]:
    """A running server without persistence, and its process."""
    binary = redis_binary()
    assert binary is not None
    folder.mkdir()
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    server = Server(command, folder, pwd.getpwuid(os.geteuid()).pw_name, lambda: redis.Redis(port=port).ping())
    try:
        server.wait_until_ready()
        yield f"redis://127.0.0.1:{port}/0", server
    finally:
        server.process.terminate()
        server.process.wait()


@contextmanager
def s3_server() -> Iterator[str]:
    """A running server that speaks the S3 protocol and keeps all in memory; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: socket.create_connection(("127.0.0.1", port)).close())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(attempt: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            attempt()
        except (psycopg.OperationalError, redis.ConnectionError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
