"""A production stack for fault injection: PostgreSQL, Redis, an API and workers."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import make_url, text

from service.access import operations as access
from service.shared import broker, migrate
from service.shared.database import Database
from service.shared.settings import Settings
from tests import servers
from tests.conftest import wait_until
from tests.e2e.stack import Caller

SECRET_KEY = secrets.token_hex(32)
SHORT = {
    "SENSORIUM_LEASE_SECONDS": "4",
    "SENSORIUM_HEARTBEAT_SECONDS": "0.4",
    "SENSORIUM_RECONCILE_SECONDS": "1",
    "SENSORIUM_RETRY_SECONDS": "0.2",
    "SENSORIUM_CHECKPOINT_SECONDS": "0.5",
    "SENSORIUM_TRAINER_STOP_SECONDS": "5",
    "SENSORIUM_STALLED_SECONDS": "30",
}
TMPFS_MEGABYTES = 512
# Runs a worker with a wall clock that is one hour ahead.
AHEAD = "import runpy, sys, time; real = time.time; time.time = lambda: real() + 3600; sys.argv = sys.argv[1:]; "
AHEAD += "runpy.run_module('worker.app', run_name='__main__', alter_sys=False)"


class Part:
    """A process of the stack. It is restarted when it exits, like a container."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._command = [sys.executable, *command]
        self._environment = dict(environment)
        self._log = log
        self._closing = False
        self._lock = threading.Lock()
        self.process = self._started()
        threading.Thread(target=self._keep, daemon=True).start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def close(self) -> None:
        """Send SIGTERM, and do not restart the process."""
        with self._lock:
            self._closing = True
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _keep(self) -> None:
        while True:
            self.process.wait()
            with self._lock:
                if self._closing:
                    return
                self.process = self._started()
            time.sleep(0.2)

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)


class Stack:
    """The running processes and a client. As root, `home` is a small tmpfs that can be filled.

    submit: queues a run; the harness sets it.
    """

    submit: Callable[[], str]

    def __init__(self, folder: Path, postgresql: tuple[str, servers.Server], redis: tuple[str, servers.Server],
                 settings: Mapping[str, str], workers: int, ahead: bool) -> None:  # fmt: skip
        server_url, self.postgresql = postgresql
        broker_url, self.redis = redis
        self.home = folder / "home"
        url = make_url(server_url).set(database="chaos").render_as_string(hide_password=False)
        server = Database(server_url)
        with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CREATE DATABASE chaos"))
        server.close()
        port = servers.free_port()
        environment = {
            **os.environ,
            **settings,
            "SENSORIUM_HOME": str(self.home),
            "SENSORIUM_DATABASE": url,
            "SENSORIUM_SECRET_KEY": SECRET_KEY,
            "SENSORIUM_BROKER": broker_url,
            "SENSORIUM_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        migrate.upgrade(url)
        self.database = Database(url)
        with self.database.writer.begin() as session:
            self.project_id = access.create_project(session, "chaos").id
            _, key = access.create_key(session, self.project_id, "chaos")
        self.messages = broker.connect(Settings(home=self.home, broker=broker_url))
        logs = folder / "logs"
        logs.mkdir()
        self.api = Part("api", ["-m", "service.cli", "api"], environment, logs / "api")
        commands = [["-m", "service.cli", "worker", "train"]] * workers
        if ahead:
            commands[-1] = ["-c", AHEAD, "worker.app", "train"]
        self.workers = [Part(f"worker {n}", c, environment, logs / f"worker-{n}") for n, c in enumerate(commands)]
        self.data_worker = Part("data worker", ["-m", "service.cli", "worker", "data"], environment, logs / "data")
        self.caller = Caller(f"http://127.0.0.1:{port}", key)
        wait_until(self.answers, 60, "the API")

    def answers(self) -> bool:
        """Whether the API responds and is ready."""
        try:
            return self.caller.http.get("/readyz").is_success
        except Exception:
            return False

    def trainers(self) -> list[int]:
        """The process ids of the busy and spare trainers of all workers."""
        found: list[int] = []
        for worker in self.workers:
            for children in Path(f"/proc/{worker.process.pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += map(int, children.read_text().split())
        return found

    def close(self) -> None:
        """Stop all processes except PostgreSQL and Redis."""
        for part in (*self.workers, self.data_worker, self.api):
            part.close()
        self.database.close()


@contextlib.contextmanager
def running(settings: Mapping[str, str], workers: int, ahead: bool = True) -> Iterator[Stack]:
    """Run a stack for the block, and remove it. `ahead`: the last worker's clock is one hour ahead."""
    with tempfile.TemporaryDirectory(prefix="sensorium-chaos-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        mounted = _mount(folder / "home")
        try:
            with servers.postgresql_process() as postgresql, servers.redis_process(folder / "redis") as redis:
                stack = Stack(folder, postgresql, redis, settings, workers, ahead)
                try:
                    yield stack
                finally:
                    stack.close()
        finally:
            if mounted:
                subprocess.run(["/bin/umount", "--lazy", folder / "home"], check=True)


def _mount(folder: Path) -> bool:
    """Mount a small tmpfs. Returns False if the user is not root."""
    if os.geteuid() != 0:
        return False
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={TMPFS_MEGABYTES}m", "tmpfs", folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
