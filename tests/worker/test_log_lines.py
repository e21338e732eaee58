"""Any output of a job's process becomes JSON lines."""

import json

from tests.conftest import wait_until
from worker.child_process import ChildProcess, start_process
from worker.log_lines import JsonLines


def test_json_lines_stay_unchanged_and_other_lines_become_json() -> None:
    lines = JsonLines()
    own = '{"event": "ours"}\n'
    assert lines.feed(own) == own
    assert lines.feed("half ") == ""
    assert json.loads(lines.feed("of one\n{broken"))["event"] == "half of one"
    assert json.loads(lines.end())["event"] == "{broken"
    assert lines.end() == ""


def test_truncated_log_has_whole_lines() -> None:
    with ChildProcess(start_process(["tests.worker.talker"]), 4000, log_json=True) as process:
        wait_until(lambda: process.wait(1), 60)
        log = [json.loads(line)["event"] for line in process.log().splitlines()]
    assert log[0] == "line 0"
    assert any("characters are left out here" in line for line in log)
    assert log[-1] == "cut short"
