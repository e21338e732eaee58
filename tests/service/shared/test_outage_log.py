"""What is tried again and again is told once, and so is its end."""

import pytest
import structlog
from structlog.testing import capture_logs

from service.shared import periodic_thread
from service.shared.outage_log import Outage
from tests.conftest import wait_until


def test_an_outage_is_told_once_with_its_end_and_a_second_one_again() -> None:
    outage = Outage(structlog.get_logger("test"), "is_away", "is_back")
    with capture_logs() as lines:
        outage.works("one")
        for _ in range(2):
            for _ in range(100):
                outage.failed("one", OSError("refused"))
                outage.failed("two", OSError("refused"))
            outage.works("one")
            outage.works("two")
    told = [(line["event"], line["log_level"]) for line in lines if line["log_level"] != "debug"]
    assert told == [("is_away", "warning"), ("is_back", "info")] * 2
    assert lines[0]["error"] == "refused"
    assert lines[-1]["failures"] == 200


@pytest.mark.parametrize("failure", [ValueError("a fault of ours"), OSError("no disk")])
def test_a_tick_that_fails_for_long_is_told_once(failure: Exception) -> None:
    attempts = []

    def tick() -> None:
        attempts.append(1)
        if len(attempts) < 20:
            raise failure

    with capture_logs() as lines:
        ticking = periodic_thread.Ticker("test", 0.001, tick)
        ticking.start()
        wait_until(lambda: len(attempts) > 20, 30)
        ticking.close()
    told = [line for line in lines if line["log_level"] != "debug"]
    assert [line["event"] for line in told] == ["tick_failed", "ticks_succeed_again"]
    assert told[0]["exc_info"] is failure
