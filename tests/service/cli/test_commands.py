"""The `sensorium` command: its output, its exit status, and the processes that it starts."""

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
from service.shared import broker
from service.shared.database import Database
from service.shared.settings import Settings
from tests import schema
from tests.conftest import wait_until
from tests.servers import free_port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation with a schema; commands that run in this process use it."""
    monkeypatch.setenv("SENSORIUM_HOME", str(tmp_path))
    settings = Settings()
    schema.install(settings.database_url)
    return settings


def output(*arguments: str) -> str:
    """The standard output of a command."""
    answer = CliRunner().invoke(cli.app, arguments)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_every_command_prints_its_result(home: Settings, tmp_path: Path) -> None:
    assert "already" in output("migrate")
    assert "already" in output("db", "migrate")
    assert "at revision" in output("db", "check")
    assert "created secret_key" in output("secrets", str(tmp_path / "secrets"))
    assert "all secrets exist" in output("secrets", str(tmp_path / "secrets"))
    assert "sns_" in output("project", "create", "p")
    assert "sns_" in output("key", "create", "p", "other")
    first, _ = output("key", "list", "p").splitlines()
    assert output("key", "revoke", "p", first.split()[0]).startswith("revoked key_")
    assert "revoked" in output("key", "list", "p")


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_gc_counts_the_files_of_each_kind_in_an_empty_installation(home: Settings, options: tuple[str, ...]) -> None:
    counts = "0 without a row, 0 unfinished, 0 of deleted resources; 0 rows without a file"
    assert output("gc", *options) == f"0 files to remove: {counts}\n"


def test_migrate_prints_the_old_and_the_new_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_HOME", str(tmp_path))
    assert output("db", "migrate", "--revision", "0001") == "from revision none to 0001\n"
    assert output("db", "migrate").startswith("from revision 0001 to ")


def _run(home: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SENSORIUM_HOME": str(home.home)}
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_an_unknown_project_is_an_error_that_says_how_to_create_it(home: Settings) -> None:
    ended = _run(home, "key", "list", "none")
    assert ended.returncode == 1
    assert ended.stderr == "sensorium: project 'none' does not exist: create it with `sensorium project create none`\n"


@pytest.mark.parametrize("command", [("gc",), ("key", "list", "p"), ("project", "create", "p")])
def test_a_command_on_a_database_without_tables_asks_for_a_migration(
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


def test_the_command_offers_the_queues_of_the_broker() -> None:
    assert tuple(WorkerQueue) == broker.WORKER_QUEUES


def test_an_unknown_queue_is_an_error_and_registers_no_worker(home: Settings) -> None:
    ended = _run(home, "worker", "trian")
    assert ended.returncode == 2
    assert "'train', 'data', 'infer'" in ended.stderr
    assert _run(home, "worker").returncode == 2
    assert _workers(home) == []


def test_help_lists_the_queues_and_starts_no_worker(home: Settings) -> None:
    ended = _run(home, "worker", "--help")
    assert ended.returncode == 0
    assert "train" in ended.stdout
    assert _workers(home) == []


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def test_the_worker_keeps_the_process_id_of_the_command_and_receives_its_signals(home: Settings) -> None:
    port = free_port()
    environment = {**os.environ, "SENSORIUM_HOME": str(home.home), "SENSORIUM_METRICS_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "worker", "data"], env=environment)
    try:
        wait_until(lambda: _is_ready(port), 60, "a worker that receives messages")
        (worker,) = _workers(home)
        assert (worker.pid, worker.queue) == (process.pid, "data")
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
    finally:
        process.kill()
        process.wait()
    assert _workers(home)[0].stopped_at is not None


def test_the_command_line_does_not_import_the_api(home: Settings) -> None:
    program = "import sys; from service import cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"fastapi", "celery", "uvicorn"} & set(done.stdout.split())
