"""The same stack as in production: PostgreSQL, Redis, and every process started on its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.conftest import wait_until
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port


@contextmanager
def _process(environment: dict[str, str], *arguments: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGTERM)  # uvicorn passes the signal on once it has drained


def sensorium(environment: dict[str, str], *arguments: str) -> str:
    """What a command of ours prints."""
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def caller(postgresql_url: str, redis_url: str, tmp_path: Path) -> Iterator[Caller]:
    """A client of an API process with a train and a data worker."""
    port = free_port()
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(tmp_path / "home"),
        "SENSORIUM_DATABASE": postgresql_url,
        "SENSORIUM_BROKER": redis_url,
        "SENSORIUM_PORT": str(port),
        "SENSORIUM_HEARTBEAT_SECONDS": "0.3",
    }
    sensorium(environment, "migrate")
    key = sensorium(environment, "key", "create", "test", "the test's")
    with ExitStack() as processes:
        processes.enter_context(_process(environment, "service.cli", "api"))
        for queue in ("train", "data"):
            processes.enter_context(_process(environment, "worker.app", queue))
        caller = Caller(f"http://127.0.0.1:{port}", key)
        wait_until(lambda: _answers(caller), 60, "the API")
        yield caller


def _answers(caller: Caller) -> bool:
    try:
        return caller.http.get("/readyz").is_success
    except httpx.TransportError:
        return False


def test_a_run_becomes_a_version_that_answers_with_modalities_missing(caller: Caller) -> None:
    caller.dataset("small")
    run = caller.wait_for_state(caller.submit("small"), *FINAL)
    assert (run["state"], run["attempt"]) == ("succeeded", 1)
    caller.ask(run)
