"""A job's log as JSON lines, whatever its process writes."""

import json

from tests.conftest import wait_until
from worker.child_process import ChildProcess
from worker.log_lines import JsonLines


def test_lines_that_are_json_stay_and_others_become_it() -> None:
    lines = JsonLines()
    own = '{"event": "ours"}\n'
    assert lines.feed(own) == own
    assert lines.feed("half ") == ""
    assert json.loads(lines.feed("of one\n{broken"))["event"] == "half of one"
    assert json.loads(lines.end())["event"] == "{broken"
    assert lines.end() == ""


def test_a_log_that_is_cut_has_whole_lines() -> None:
    with ChildProcess(["tests.worker.talker"], 4000, log_json=True) as process:
        wait_until(lambda: process.wait(1), 60)
        log = [json.loads(line)["event"] for line in process.log().splitlines()]
    assert log[0] == "line 0"
    assert any("characters are left out here" in line for line in log)
    assert log[-1] == "cut short"
