"""The log's format, and values that must not be logged."""

import json
import logging
import subprocess
import sys
import threading

import pytest
import structlog

from service.shared.settings import Settings
from service.shared.telemetry import configure_logging


@pytest.fixture
def _logging_restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    yield
    root.handlers, root.level = handlers, level
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging_restored")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_shows_no_local_variable(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_json=as_json))
    secret = "sns_0123_" + "x" * 20
    try:
        raise RuntimeError("the reason")
    except RuntimeError:
        structlog.get_logger("test").exception("it_failed", length=len(secret))
    written = capsys.readouterr().err
    assert "it_failed" in written
    assert "RuntimeError: the reason" in written
    assert secret not in written


PROGRAM = """
import threading, warnings
from service.shared.settings import LogSettings
from service.shared.telemetry import configure_logging
configure_logging(LogSettings(log_json=True))
warnings.warn("a warning\\nof two lines")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Broken:
    def __del__(self):
        raise ValueError("in a destructor")
Broken()
raise RuntimeError("nobody catches it")
"""


def test_warnings_and_uncaught_exceptions_are_json_lines() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in lines[1:]] == ["uncaught_exception"] * 3
    assert "a warning\nof two lines" in lines[0]["event"]
    for line, said in zip(lines[1:], ("ZeroDivisionError", "in a destructor", "nobody catches it"), strict=True):
        assert said in line["exception"]
