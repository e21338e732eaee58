"""The child's side of a supervised process: its spec comes in on standard input, JSON-line events go out.

The first line of standard input is the spec. When standard input closes, the supervisor is gone, and so is the child.
SIGTERM asks it to stop in order. What it writes to standard error is the job's log.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import structlog

from service.shared import telemetry
from service.shared.errors import BadInput
from service.shared.full_disk import tells_of_full
from service.shared.settings import Settings
from worker import errors

log = structlog.get_logger(__name__)

Emit = Callable[[dict[str, Any]], None]
Program = Callable[[dict[str, Any], Emit, threading.Event], dict[str, Any] | None]


class Refused(Exception):
    """The job cannot be done, however often it is tried."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def read_spec() -> str:
    """The first line of standard input."""
    return sys.stdin.readline()


def run(program: Program, read: Callable[[], str] = read_spec, speaks: bool = True) -> None:
    """Run a program under a supervisor.

    `program(spec, emit, stopping)` emits events on the way and returns the fields of its `finished` event, or None
    when it stopped because it was asked to. Of several processes that do one job together, one speaks.
    """
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints belongs in the log
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def emit(event: dict[str, Any]) -> None:
        if speaks:
            out.write(json.dumps(event) + "\n")

    line = read()
    if not line:  # a spare that was never needed
        return
    spec = json.loads(line)
    telemetry.configure_logging(Settings())
    structlog.contextvars.bind_contextvars(**{name: spec[name] for name in telemetry.OF_JOB if name in spec})
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        result = program(spec, emit, stopping)
    except BadInput as error:
        faults = [{"pointer": f.pointer, "code": f.code, "detail": f.detail} for f in error.faults]
        emit({"event": "failed", "code": error.code, "detail": error.detail, "errors": faults, "retry": False})
    except Refused as error:
        emit({"event": "failed", "code": error.code, "detail": str(error), "retry": False})
    except Exception as error:
        log.exception("program_failed")
        if tells_of_full(error):
            emit({"event": "failed", "code": "storage_full", "detail": "no space is left on the disk", "retry": True})
            return
        emit({"event": "failed", **errors.describe(error), "retry": True})
    else:
        emit({"event": "stopped"} if result is None else {"event": "finished", **result})


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)
