"""What gets into the log, and what never does."""

import logging

import pytest
import structlog

from service.shared.settings import Settings
from service.shared.telemetry import configure_logging


@pytest.fixture
def _logging_restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
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
