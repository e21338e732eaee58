"""The production stack: PostgreSQL, Redis, and separately started processes."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.e2e.processes import answers, process, sensorium
from tests.e2e.stack import FINAL, ROWS, Caller
from tests.servers import free_port

pytestmark = pytest.mark.slow


@contextmanager
def _stack(database: str, broker: str, folder: Path, queues: Sequence[str]) -> Iterator[Caller]:
    """An API process and one worker per queue; yields a client."""
    port = free_port()
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(folder / "home"),
        "SENSORIUM_DATABASE": database,
        "SENSORIUM_SECRET_KEY": secrets.token_hex(32),
        "SENSORIUM_BROKER": broker,
        "SENSORIUM_PORT": str(port),
        "SENSORIUM_HEARTBEAT_SECONDS": "0.3",
        "SENSORIUM_RECONCILE_SECONDS": "1",
    }
    sensorium(environment, "migrate")
    key = sensorium(environment, "key", "create", "test", "the test's")
    with ExitStack() as processes:
        processes.enter_context(process(environment, "service.cli", "api"))
        for queue in queues:
            processes.enter_context(process(environment, "service.cli", "worker", queue))
        caller = Caller(f"http://127.0.0.1:{port}", key)
        wait_until(lambda: answers(caller), 60, "the API")
        yield caller


def test_a_trained_version_answers_with_missing_modalities(postgresql_url: str, redis_url: str, tmp_path: Path) -> None:
    with _stack(postgresql_url, redis_url, tmp_path, queues=("train", "data")) as caller:
        caller.dataset("small")
        run = caller.wait_for_state(caller.submit("small"), *FINAL)
        assert (run["state"], run["attempt"]) == ("succeeded", 1)
        caller.ask(run)


def test_without_a_broker_jobs_still_run(postgresql_url: str, tmp_path: Path) -> None:
    """The loss of all messages costs only latency."""
    with _stack(postgresql_url, f"redis://127.0.0.1:{free_port()}/0", tmp_path, queues=("data",)) as caller:
        caller.dataset("small")
        assert caller.call("GET", "/v1/datasets/small/versions/1")["rows"] == ROWS
