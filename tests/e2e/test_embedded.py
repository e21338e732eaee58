"""The embedded stack as a user starts it: one process and its children, SQLite and the filesystem broker."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port

ENVIRONMENT = {
    "SENSORIUM_LEASE_SECONDS": "3",
    "SENSORIUM_HEARTBEAT_SECONDS": "0.3",
    "SENSORIUM_RECONCILE_SECONDS": "0.5",
    "SENSORIUM_RETRY_SECONDS": "0.1",
}


def _start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.cli", "serve", "--home", str(home), *arguments]
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _processes_of(home: Path) -> list[int]:
    """The processes with this home in their environment: the stack's child processes and their children."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"SENSORIUM_HOME={home}".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _trainers_of(home: Path) -> list[int]:
    arguments = {pid: Path(f"/proc/{pid}/cmdline") for pid in _processes_of(home)}
    return [pid for pid, path in arguments.items() if path.exists() and b"worker.trainer" in path.read_bytes()]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Caller, Path]]:
    """A client of a running stack with a small dataset, and the stack's home."""
    home, port = tmp_path_factory.mktemp("embedded") / "home", free_port()
    process = _start(home, "--port", str(port))
    try:
        assert process.stdout is not None
        assert "listens" in process.stdout.readline()
        caller = Caller(f"http://127.0.0.1:{port}", (home / "api-key").read_text().strip())
        caller.dataset("small")
        yield caller, home
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
        assert _processes_of(home) == []


def test_a_trained_version_answers_with_missing_modalities(stack: tuple[Caller, Path]) -> None:
    caller, _ = stack
    run = caller.wait_for_state(caller.submit("small"), *FINAL)
    assert (run["state"], run["progress"], run["attempt"]) == ("succeeded", 1.0, 1)
    assert run["metrics"]["loss"] is not None
    caller.ask(run)
    history = caller.call("GET", f"/v1/runs/{run['id']}/metrics")["metrics"]["loss"]
    assert [point["epoch"] for point in history] == [1, 2, 3]
    events = [event["type"] for event in caller.call("GET", f"/v1/runs/{run['id']}/events")["events"]]
    # 20 rows are held out, and after three epochs a linear prediction is better.
    assert events == ["queued", "started", "training", "few_rows", "no_better_than_baseline", "succeeded"]


def test_a_killed_trainer_is_retried_and_its_log_is_kept(stack: tuple[Caller, Path]) -> None:
    caller, home = stack
    run_id = caller.submit("small", epochs=100_000)
    for attempt in (1, 2, 3):
        wait_until(lambda n=attempt: caller.run(run_id)["attempt"] == n, 60, f"attempt {attempt}")
        wait_until(lambda n=attempt: caller.run(run_id)["phase"] == "training", 60, "training")
        (trainer,) = _trainers_of(home)
        os.kill(trainer, signal.SIGKILL)
        wait_until(lambda n=attempt: caller.run(run_id)["phase"] != "training", 30, "the end of the attempt")
    run = caller.wait_for_state(run_id, *FINAL)
    assert run["state"] == "failed"
    assert run["error"]["code"] == "process_died"
    assert "SIGKILL" in run["error"]["detail"]
    assert "epoch 1/100000" in caller.http.get(f"/v1/runs/{run_id}/logs", params={"characters": 2**22}).text


def test_a_running_run_stops_within_five_seconds_of_its_cancellation(stack: tuple[Caller, Path]) -> None:
    caller, home = stack
    run_id = caller.submit("small", epochs=100_000)
    wait_until(lambda: caller.run(run_id)["phase"] == "training", 60, "training")
    (trainer,) = _trainers_of(home)
    assert caller.http.post(f"/v1/runs/{run_id}/cancel").status_code == 202
    wait_until(lambda: caller.run(run_id)["state"] == "cancelled", 5, "cancelled")
    assert trainer not in _trainers_of(home)  # a spare trainer may run already
    (checkpoint,) = caller.call("GET", f"/v1/runs/{run_id}/checkpoints")["checkpoints"]
    assert checkpoint["reason"] == "stopped"
    assert caller.http.post(f"/v1/runs/{run_id}/cancel").status_code == 409


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_its_run_continues(stack: tuple[Caller, Path]) -> None:
    caller, home = stack
    run_id = caller.submit("small", epochs=400)
    wait_until(lambda: caller.run(run_id)["phase"] == "training", 60, "training")
    (worker,) = [
        pid for pid in _processes_of(home) if b"worker.app\0train" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(worker, signal.SIGKILL)
    run = caller.wait_for_state(run_id, *FINAL)
    assert (run["state"], run["attempt"]) == ("succeeded", 2)


def test_the_file_of_the_first_key_has_mode_0600(stack: tuple[Caller, Path]) -> None:
    _, home = stack
    assert stat.S_IMODE((home / "api-key").stat().st_mode) == 0o600


@pytest.mark.slow
def test_a_killed_stack_leaves_no_process_behind(tmp_path: Path) -> None:
    process = _start(tmp_path / "home", "--port", "0")
    assert process.stdout is not None
    assert "listens" in process.stdout.readline()
    assert len(_processes_of(tmp_path / "home")) == 4  # the API, two workers, and a spare trainer
    process.kill()
    process.wait()
    wait_until(lambda: _processes_of(tmp_path / "home") == [], 30, "no process left")


@pytest.mark.slow
def test_the_stack_exits_with_the_status_of_its_command(tmp_path: Path) -> None:
    process = _start(tmp_path / "home", "--port", "0", "--fresh", "--run", "sh -c 'exit 7'")
    assert process.wait(60) == 7
    wait_until(
        lambda: _processes_of(tmp_path / "home") == [], 30, "no process left"
    )  # a spare trainer may still be importing torch


@pytest.mark.slow
def test_an_interrupted_command_fails_and_leaves_no_process(tmp_path: Path) -> None:
    process = _start(tmp_path / "home", "--port", "0", "--fresh", "--run", "sleep 1000")
    assert process.stdout is not None
    assert "listens" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(40) != 0
    wait_until(
        lambda: _processes_of(tmp_path / "home") == [], 30, "no process left"
    )  # a spare trainer may still be importing torch


def _refused(*arguments: str) -> str:
    """The error message of a stack that cannot start."""
    command = [sys.executable, "-m", "service.cli", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_in_use_is_named(stack: tuple[Caller, Path], tmp_path: Path) -> None:
    caller, _ = stack
    port = str(caller.http.base_url.port)
    assert "Address already in use" in _refused("--home", str(tmp_path / "home"), "--port", port)


@pytest.mark.slow
def test_a_second_stack_in_the_same_home_is_refused_without_effect(stack: tuple[Caller, Path]) -> None:
    caller, home = stack
    assert "another stack runs in" in _refused("--home", str(home), "--port", "0", "--fresh")
    assert caller.call("GET", "/v1/datasets/small/versions/1")["state"] == "ready"


def test_fresh_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("thesis")
    assert "has files of other programs, expected an empty folder or the home of a stack" in _refused(
        "--home", str(tmp_path), "--port", "0", "--fresh"
    )
    assert precious.read_text() == "thesis"


@pytest.mark.slow
def test_other_files_in_the_home_are_kept(tmp_path: Path) -> None:
    """`make demo` and the README's session write files into the home of `make serve`."""
    (tmp_path / "digits.npz").write_text("data")
    process = _start(tmp_path, "--port", "0", "--run", "true")
    assert process.wait(60) == 0
    assert (tmp_path / "digits.npz").read_text() == "data"


def test_the_home_has_mode_0700(stack: tuple[Caller, Path]) -> None:
    _, home = stack
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
