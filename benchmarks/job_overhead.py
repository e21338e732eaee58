"""From POST /v1/runs to the trainer's first step, with an idle worker: over Redis and PostgreSQL, and embedded.

A run's epochs are one step each, and the worker reports every 0.1 s, so that the first epoch is seen at most that much
after the first step.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Figure, publish
from tests.chaos.stack import running
from tests.e2e.stack import FINAL, ROWS, Caller

SUBMITTED = 10
SETTINGS = {"SENSORIUM_HEARTBEAT_SECONDS": "0.1"}
ONE_STEP = {"epochs": 50, "batch_size": ROWS, "validation_fraction": 0}
# A spare trainer is ready again by then.
PAUSE_SECONDS = 5.0


def main() -> None:
    """Measure both."""
    with running(SETTINGS, workers=1, ahead=False) as stack:
        stack.caller.dataset("small")
        production = overheads(stack.caller)
    embedded = embedded_overheads()
    figures = []
    for name, seconds, most in (("Redis and PostgreSQL", production, 1.5), ("embedded", embedded, 3.0)):
        median = statistics.median(seconds)
        figures.append(Figure(f"{name}: median", median, "s", f"<= {most:g}", median <= most))
        figures.append(Figure(f"{name}: worst of {len(seconds)}", max(seconds), "s", None, None))
    publish("job_overhead", figures)


def embedded_overheads() -> list[float]:
    """Of a stack as `make serve` starts it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        command = [sys.executable, "-m", "service.cli", "serve", "--home", str(home), "--port", "0"]
        process = subprocess.Popen(command, env={**os.environ, **SETTINGS}, stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout is None:
                raise SystemExit("the stack has no output")
            url = process.stdout.readline().split()[3].rstrip(";")
            caller = Caller(url, (home / "api-key").read_text().strip())
            caller.dataset("small")
            return overheads(caller)
        finally:
            process.terminate()
            process.wait(60)


def overheads(caller: Caller) -> list[float]:
    """Seconds from the request to the first step, one run after the other."""
    seconds = []
    for _ in range(SUBMITTED):
        time.sleep(PAUSE_SECONDS)
        before = time.monotonic()
        run_id = caller.submit("small", **ONE_STEP)
        while caller.run(run_id)["progress"] == 0:
            time.sleep(0.01)
        seconds.append(time.monotonic() - before)
        caller.wait_for_state(run_id, *FINAL)
    return seconds


if __name__ == "__main__":
    main()
