"""The supervisor's side of a child process: its output, how it is stopped, and what it leaves behind."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import fork_server
from tests.conftest import wait_until
from worker import child_process
from worker.child_process import ChildProcess, start_process

PROGRAM = "tests.worker.program"


def forked(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A process as most tests have it."""
    process = fork_server.start(arguments)
    assert not isinstance(process, subprocess.Popen)
    return process


start = start_process


@pytest.fixture(params=[start_process, forked], autouse=True)
def _start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "start", request.param)


@contextmanager
def started(folder: Path, do: str, max_log_bytes: int = 100_000) -> Iterator[ChildProcess]:
    spec = {"do": do, "result": str(folder / "result"), "mark": str(folder / "mark")}
    with ChildProcess(start([PROGRAM]), max_log_bytes) as process:
        process.send_spec(spec)
        yield process


def heard(process: ChildProcess, event: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []

    def has_come() -> bool:
        events.extend(process.events())
        return any(found["event"] == event for found in events)

    wait_until(has_come, what=f"the event {event}")
    return events


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_all_output_of_a_child_is_read_once_it_has_ended(tmp_path: Path) -> None:
    with started(tmp_path, "finish") as process:
        assert process.wait(300)
        assert [event["event"] for event in process.events()] == ["note", "progress", "finished"]
        assert process.events() == []
        assert process.log() == "this goes to the log\n"
        assert process.log() == ""
        assert process.ending() == "ended with status 0"


def test_wait_returns_after_the_given_time(tmp_path: Path) -> None:
    with started(tmp_path, "ignore") as process:
        heard(process, "progress")
        assert not process.wait(0.1)  # the child itself never ends


def test_stop_lets_a_child_end_gracefully(tmp_path: Path) -> None:
    with started(tmp_path, "wait") as process:
        heard(process, "progress")
        process.stop(20)
        assert [event["event"] for event in process.events()] == ["stopped"]
        assert "stopped in order" in process.log()


def test_stop_kills_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    with started(tmp_path, "ignore") as process:
        heard(process, "progress")
        process.stop(0.2)
        assert process.ending() == "was killed by SIGKILL"


def test_leaving_the_block_ends_the_child(tmp_path: Path) -> None:
    with started(tmp_path, "ignore") as process:
        heard(process, "progress")
        pid = process._process.pid
    assert not alive(pid)


def test_ending_describes_how_a_child_ended(tmp_path: Path) -> None:
    with started(tmp_path, "die") as process:
        assert process.wait(300)
        assert process.ending() == "was killed by SIGKILL"
        assert process.log().endswith("last words\n")
    with started(tmp_path, "exit") as process:
        assert process.wait(300)
        assert process.ending() == "ended with status 3"


def test_program_that_does_not_start_leaves_a_log() -> None:
    with ChildProcess(start_process(["tests.worker.no_such_program"]), 100_000) as process:
        process.send_spec({})
        assert process.wait(300)
        assert "no_such_program" in process.log()


def test_long_log_keeps_its_beginning_and_end_with_a_note(tmp_path: Path) -> None:
    with started(tmp_path, "chatter", max_log_bytes=5000) as process:
        assert process.wait(300)
        log = process.log()
    assert "line 0 " in log[:200]
    assert "characters are left out here …" in log
    assert log.splitlines()[-1].startswith("line 9999 ")
    assert len(log) < 5000 + 8192 + 65_536 + 100


def test_processes_that_a_dead_child_left_are_killed_and_do_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example the data loaders of a killed trainer, which keep its pipes open."""
    monkeypatch.setattr(child_process, "READ_SECONDS", 0.5)
    try:
        with started(tmp_path, "leave a child behind") as process:
            assert process.wait(300)
        left = int((tmp_path / "mark").read_text())
        wait_until(lambda: not alive(left), what="the end of the process that was left")
    finally:
        left = int((tmp_path / "mark").read_text())
        if alive(left):
            os.kill(left, 9)
