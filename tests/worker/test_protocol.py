"""The child's side of the protocol, over its pipes as a supervisor uses them."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Process = subprocess.Popen[bytes]

BROKE_AT_7 = "the program failed after 7 of 9 steps: the log of the job has the traceback under reference "
BROKE_AT_7 += hashlib.sha256(b"RuntimeError\nit broke\nafter 7 of 9 steps").hexdigest()[:8]


def start(spec: dict[str, Any]) -> Process:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(spec).encode() + b"\n")
    process.stdin.flush()
    return process


def next_event(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    event: dict[str, Any] = json.loads(process.stdout.readline())
    return event


def ended(process: Process) -> tuple[list[dict[str, Any]], str, int]:
    """All further events, the log, and the exit status."""
    assert process.stdout is not None
    assert process.stderr is not None
    events = [json.loads(line) for line in process.stdout]
    log = process.stderr.read().decode()
    return events, log, process.wait(300)


def run(tmp_path: Path, do: str) -> tuple[list[dict[str, Any]], str, int]:
    return ended(start({"do": do, "result": str(tmp_path / "result")}))


def test_events_go_to_standard_output_and_the_log_to_standard_error(tmp_path: Path) -> None:
    events, log, status = run(tmp_path, "finish")
    assert [event["event"] for event in events] == ["note", "progress", "finished"]
    assert events[-1] == {"event": "finished", "result": str(tmp_path / "result"), "n": 2}
    assert log == "this goes to the log\n"
    assert status == 0


def test_output_of_libraries_goes_to_the_log_and_not_to_the_events(tmp_path: Path) -> None:
    events, log, _ = run(tmp_path, "print")
    assert [event["event"] for event in events] == ["finished"]
    assert events[0]["n"] == 2
    assert "printed by a library" in log
    assert "printed by a child" in log


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        ("refuse", {"code": "unusable_data", "detail": "there is too little of it", "retry": False}),
        ("break", {"code": "fault", "detail": BROKE_AT_7, "retry": True}),
        (
            "bad input",
            {
                "code": "dataset_rejected",
                "detail": "it is NaN",
                "errors": [{"pointer": "/a/1", "code": "bad_value", "detail": "it is NaN"}],
                "retry": False,
            },
        ),
    ],
)
def test_failed_event_has_a_code_a_detail_and_whether_to_retry(
    tmp_path: Path, do: str, expected: dict[str, Any]
) -> None:
    events, _, _ = run(tmp_path, do)
    assert events == [{"event": "failed", **expected}]


def test_unexpected_exception_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    _, log, _ = run(tmp_path, "break")
    assert "Traceback" in log
    assert BROKE_AT_7[-8:] in log
    assert log.endswith("RuntimeError: it broke\nafter 7 of 9 steps\n")


def test_sigterm_stops_the_program_gracefully(tmp_path: Path) -> None:
    process = start({"do": "wait", "result": str(tmp_path / "result"), "mark": str(tmp_path / "mark")})
    assert next_event(process)["event"] == "progress"
    process.send_signal(signal.SIGTERM)
    events, log, status = ended(process)
    assert (events, status) == ([{"event": "stopped"}], 0)
    assert "stopped in order" in log


def test_sigint_is_ignored(tmp_path: Path) -> None:
    process = start({"do": "wait", "result": str(tmp_path / "result"), "mark": str(tmp_path / "mark")})
    next_event(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == [{"event": "stopped"}]


def test_child_exits_when_its_supervisor_has_exited(tmp_path: Path) -> None:
    process = start({"do": "ignore", "result": str(tmp_path / "result")})
    next_event(process)
    assert process.stdin is not None
    process.stdin.close()
    assert ended(process)[2] == 1
