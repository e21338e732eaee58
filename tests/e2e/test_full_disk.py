"""A stack on a disk that another program fills: errors, deletions, waiting jobs and recovery."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest

from tests import filesystem
from tests.conftest import wait_until
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port

pytestmark = pytest.mark.slow

MEGABYTES = 128
RESERVE_BYTES = 8 * 1024**2
ROWS = b'{"x": [1.0, 2.0]}\n{"x": [3.0, 4.0]}\n' * 50
SETTINGS = {
    "SENSORIUM_RESERVE_BYTES": str(RESERVE_BYTES),
    "SENSORIUM_HEARTBEAT_SECONDS": "0.2",
    "SENSORIUM_RECONCILE_SECONDS": "0.3",
    "SENSORIUM_RETRY_SECONDS": "0.1",
}


class Stack(NamedTuple):
    """A running embedded stack and the small disk that is its home."""

    caller: Caller
    home: Path

    def fill(self, leave_bytes: int = 0) -> None:
        """Fill the disk, as another program would."""
        filesystem.fill(self.home / "ballast", leave_bytes)

    def free(self) -> None:
        """Delete the other program's file, and wait until the stack reports space."""
        (self.home / "ballast").unlink()
        wait_until(lambda: self.caller.call("GET", "/readyz")["status"] == "ok", 30, "ready")

    def metric(self, name: str) -> set[float]:
        """The values of a metric at all places."""
        text = self.caller.http.get("/metrics").text
        return {float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with filesystem.small(tmp_path_factory.mktemp("disk") / "home", MEGABYTES) as home:
        port = free_port()
        command = [sys.executable, "-m", "service.cli", "serve", "--home", str(home), "--port", str(port)]
        process = subprocess.Popen(command, env=os.environ | SETTINGS, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert "listens" in process.stdout.readline()
            caller = Caller(f"http://127.0.0.1:{port}", (home / "api-key").read_text().strip())
            caller.dataset("small")
            wait_until(lambda: reserve_bytes(home) == RESERVE_BYTES, 30, "the reserve")
            yield Stack(caller, home)
        finally:
            process.terminate()
            assert process.wait(40) == 0


def reserve_bytes(home: Path) -> int:
    """The size of the reserve file."""
    file = home / "sensorium.db-reserve"
    return file.stat().st_size if file.exists() else 0


def is_refused(answer: httpx.Response) -> bool:
    """Whether a response reports a full disk with advice."""
    body: dict[str, Any] = answer.json()
    return (
        (answer.status_code, body["status"], body["code"]) == (507, 507, "storage_full")
        and answer.headers["content-type"] == "application/problem+json"
        and "delete uploads or runs, or purge datasets or models" in body["detail"]
    )


def events_of(caller: Caller, run_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = caller.call("GET", f"/v1/runs/{run_id}/events")["events"]
    return events


@pytest.mark.timeout(600)
def test_on_a_full_disk_deletions_work_and_jobs_wait_until_space_is_free(stack: Stack) -> None:
    caller, home = stack
    upload = caller.call("POST", "/v1/uploads", content=ROWS)["id"]
    other = caller.call("POST", "/v1/uploads", content=ROWS + b'{"x": [5.0, 6.0]}\n')["id"]
    running = caller.submit("small", epochs=400)
    wait_until(lambda: caller.run(running)["phase"] == "training", 60, "training")
    queued = caller.submit("small")

    stack.fill()
    # Every process reports the full disk at once.
    assert is_refused(caller.http.post("/v1/uploads", content=ROWS * 5000))
    assert is_refused(caller.http.post("/v1/uploads", content=b'{"x": [0.0, 0.0]}'))
    readiness = caller.http.get("/readyz")
    assert (readiness.status_code, readiness.json()) == (200, {"status": "degraded", "impaired": ["storage"]})
    assert stack.metric("sensorium_storage_full") == {1.0}
    assert max(stack.metric("sensorium_storage_free_bytes")) < 2 * RESERVE_BYTES

    # Jobs wait with the reason. None has failed.
    for run_id in (running, queued):
        wait_until(lambda run_id=run_id: caller.run(run_id)["waiting_reason"] == "storage_full", 60, "waiting")
    assert [caller.run(run_id)["state"] for run_id in (running, queued)] == ["queued", "queued"]
    made = caller.call("POST", "/v1/datasets", json={"name": "late", "source": {"upload": upload}})
    version = f"/v1/datasets/late/versions/{made['version']}"
    wait_until(lambda: caller.call("GET", version)["waiting_reason"] == "storage_full", 30, "waiting")

    # Deletions work with the reserved bytes.
    assert caller.http.delete(f"/v1/uploads/{other}").status_code == 204
    assert caller.http.get(f"/v1/uploads/{other}").status_code == 404
    assert reserve_bytes(home) == 0
    stack.fill(RESERVE_BYTES // 4)  # the rest is reserved for deletions
    assert is_refused(caller.http.post("/v1/api-keys", json={"name": "another"}))
    assert caller.http.post(f"/v1/runs/{caller.run(queued)['id']}/cancel").status_code in (200, 202)
    assert caller.http.delete(f"/v1/runs/{queued}").status_code == 204

    stack.free()
    wait_until(lambda: caller.run(running)["state"] in FINAL, 240, "the end of the run")
    run = caller.run(running)
    assert (run["state"], run["failures"], run["preemptions"]) == ("succeeded", 0, 0)
    assert run["waiting_reason"] is None
    wait_until(lambda: caller.call("GET", version)["state"] == "ready", 60, "converted")
    assert caller.call("GET", version)["rows"] == 100
    told = [event["message"] for event in events_of(caller, running) if event["type"] == "training"]
    assert len(told) == 2
    assert "of them done before" in told[1]
    assert stack.metric("sensorium_storage_full") == {0.0}
    wait_until(lambda: reserve_bytes(home) == RESERVE_BYTES, 30, "the reserve")
    for unfinished in (home / "artifacts" / "tmp", home / "scratch"):
        wait_until(lambda folder=unfinished: not list(folder.iterdir()), 30, f"no partial files in {unfinished}")
    assert not list((home / "queue").rglob("*.tmp"))


def test_a_run_that_waited_for_space_in_the_queue_takes_one_attempt(stack: Stack) -> None:
    caller, _ = stack
    stack.fill(RESERVE_BYTES + 1024**2)  # the other program uses a little of the reserved space
    assert is_refused(caller.http.post("/v1/uploads", content=ROWS * 5000))
    stack.fill(RESERVE_BYTES // 2)
    run_id = caller.submit("small")
    wait_until(lambda: caller.run(run_id)["waiting_reason"] == "storage_full", 30, "waiting")
    stack.free()
    run = caller.wait_for_state(run_id, *FINAL)
    assert (run["state"], run["attempt"], run["failures"]) == ("succeeded", 1, 0)


@pytest.mark.parametrize("ends", ["cancel", "pause"])
def test_a_run_that_waits_for_space_can_be_ended(stack: Stack, ends: str) -> None:
    caller, _ = stack
    stack.fill(RESERVE_BYTES // 2)
    run_id = caller.submit("small")
    wait_until(lambda: caller.run(run_id)["waiting_reason"] == "storage_full", 30, "waiting")
    caller.call("POST", f"/v1/runs/{run_id}/{ends}")
    assert caller.run(run_id)["state"] == {"cancel": "cancelled", "pause": "paused"}[ends]
    stack.free()
