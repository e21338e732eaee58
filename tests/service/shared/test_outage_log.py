"""The outage log: one warning when attempts begin to fail, one line when they succeed again."""

import pytest
import structlog
from structlog.testing import capture_logs

from service.shared import periodic_thread
from service.shared.outage_log import Outage
from tests.conftest import wait_until


def test_each_outage_logs_one_warning_and_one_recovery() -> None:
    outage = Outage(structlog.get_logger("test"), "test_failed", "test_recovered")
    with capture_logs() as lines:
        outage.works("one")
        for _ in range(2):
            for _ in range(100):
                outage.failed("one", OSError("refused"))
                outage.failed("two", OSError("refused"))
            outage.works("one")
            outage.works("two")
    logged = [(line["event"], line["log_level"]) for line in lines if line["log_level"] != "debug"]
    assert logged == [("test_failed", "warning"), ("test_recovered", "info")] * 2
    assert lines[0]["error"] == "refused"
    assert lines[-1]["failures"] == 200


@pytest.mark.parametrize("failure", [ValueError("a bug"), OSError("no disk")])
def test_repeated_failures_of_a_tick_log_one_warning(failure: Exception) -> None:
    attempts = []

    def tick() -> None:
        attempts.append(1)
        if len(attempts) < 20:
            raise failure

    with capture_logs() as lines:
        ticking = periodic_thread.PeriodicThread("test", 0.001, tick)
        ticking.start()
        wait_until(lambda: len(attempts) > 20, 30)
        ticking.close()
    logged = [line for line in lines if line["log_level"] != "debug"]
    assert [line["event"] for line in logged] == ["tick_failed", "tick_recovered"]
    assert logged[0]["exc_info"] is failure
