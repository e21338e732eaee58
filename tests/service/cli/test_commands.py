"""The `sensorium` command: what it says, and the processes that it becomes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from service import cli
from service.cli.workers import WorkerQueue
from service.jobs.tables import Worker
from service.shared import broker, migrate
from service.shared.database import Database
from service.shared.settings import Settings
from tests.conftest import wait_until
from tests.servers import free_port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation with a schema, which commands run in this process find."""
    monkeypatch.setenv("SENSORIUM_HOME", str(tmp_path))
    settings = Settings()
    migrate.upgrade(settings.database_url)
    return settings


def said(*arguments: str) -> str:
    """What a command prints."""
    answer = CliRunner().invoke(cli.app, arguments)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_no_command_is_silent(home: Settings, tmp_path: Path) -> None:
    assert "already" in said("migrate")
    assert "already" in said("db", "migrate")
    assert "at revision" in said("db", "check")
    assert "made secret_key" in said("secrets", str(tmp_path / "secrets"))
    assert "nothing to make" in said("secrets", str(tmp_path / "secrets"))
    assert "sns_" in said("project", "create", "p")
    assert "sns_" in said("key", "create", "p", "other")
    first, _ = said("key", "list", "p").splitlines()
    assert said("key", "revoke", "p", first.split()[0]).startswith("revoked key_")
    assert "revoked" in said("key", "list", "p")


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_gc_says_that_there_is_nothing_to_remove_and_what_it_looked_for(
    home: Settings, options: tuple[str, ...]
) -> None:
    counts = "0 without a row, 0 unfinished, 0 that nothing needs; 0 rows have lost their file"
    assert said("gc", *options) == f"nothing to remove: {counts}\n"


def test_a_migration_says_where_from_and_where_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_HOME", str(tmp_path))
    assert said("db", "migrate", "--revision", "0001") == "from revision none to 0001\n"
    assert said("db", "migrate").startswith("from revision 0001 to ")


def _run(home: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SENSORIUM_HOME": str(home.home)}
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_command_says_that_there_is_no_such_project_and_how_to_make_it(home: Settings) -> None:
    ended = _run(home, "key", "list", "none")
    assert ended.returncode == 1
    assert ended.stderr == "sensorium: there is no project 'none': make it with `sensorium project create none`\n"


@pytest.mark.parametrize("command", [("gc",), ("key", "list", "p"), ("project", "create", "p")])
def test_a_command_asks_for_a_migration_where_there_are_no_tables(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SENSORIUM_HOME", str(tmp_path))
    monkeypatch.setenv("SENSORIUM_DATABASE", empty_database_url)
    answer = CliRunner().invoke(cli.app, command)
    assert answer.exit_code == 1
    assert "run `sensorium db migrate`" in answer.output
    assert "no such" not in answer.output


def _workers(settings: Settings) -> list[Worker]:
    database = Database(settings.database_url)
    with database.reader() as session:
        found = list(session.scalars(select(Worker)))
    database.close()
    return found


def test_the_queues_of_the_command_are_those_of_the_broker() -> None:
    assert tuple(WorkerQueue) == broker.WORKER_QUEUES


def test_a_queue_that_there_is_not_is_refused_and_no_worker_is_registered(home: Settings) -> None:
    ended = _run(home, "worker", "trian")
    assert ended.returncode == 2
    assert "'train', 'data', 'infer'" in ended.stderr
    assert _run(home, "worker").returncode == 2
    assert _workers(home) == []


def test_help_helps_and_starts_no_worker(home: Settings) -> None:
    ended = _run(home, "worker", "--help")
    assert ended.returncode == 0
    assert "train" in ended.stdout
    assert _workers(home) == []


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def test_the_process_of_the_command_is_the_worker_and_gets_its_signals(home: Settings) -> None:
    port = free_port()
    environment = {**os.environ, "SENSORIUM_HOME": str(home.home), "SENSORIUM_METRICS_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "worker", "data"], env=environment)
    try:
        wait_until(lambda: _is_ready(port), 60, "a worker that takes messages")
        (worker,) = _workers(home)
        assert (worker.pid, worker.queue) == (process.pid, "data")
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
    finally:
        process.kill()
        process.wait()
    assert _workers(home)[0].stopped_at is not None


def test_a_command_becomes_a_worker_without_importing_the_api(home: Settings) -> None:
    program = "import sys; from service import cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"fastapi", "celery", "uvicorn"} & set(done.stdout.split())
