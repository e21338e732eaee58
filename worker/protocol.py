"""The child's side of a child process: reads its spec from standard input, writes JSON-line events to standard output.

The first line of standard input is the spec. The child ends when standard input closes, since the supervisor is gone
then. SIGTERM asks it to stop. Standard error is the job's log.

Events: `progress`, `checkpoint` and `note` on the way; `finished`, `failed` or `stopped` last.
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
from service.shared.full_disk import is_disk_full
from service.shared.settings import Settings
from worker import errors

log = structlog.get_logger(__name__)

Emit = Callable[[dict[str, Any]], None]
Program = Callable[[dict[str, Any], Emit, threading.Event], dict[str, Any] | None]
"""(spec, emit, stopping) -> the fields of the `finished` event, or None if it stopped because `stopping` was set."""


class Refused(Exception):
    """The job would fail at every attempt."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def read_spec() -> str:
    """The first line of standard input."""
    return sys.stdin.readline()


def run(program: Program, read: Callable[[], str] = read_spec, emits: bool = True) -> None:
    """Run a program under a supervisor.

    emits: whether this process writes events. Of several processes that do one job together, one does.
    """
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log

    def emit(event: dict[str, Any]) -> None:
        if emits:
            events.write(json.dumps(event) + "\n")

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = read()
    if not line:  # a spare process that was not needed
        return
    spec = json.loads(line)
    telemetry.configure_logging(Settings())
    structlog.contextvars.bind_contextvars(**{name: spec[name] for name in telemetry.OF_JOB if name in spec})
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    emit(_last_event(program, spec, emit, stopping))


def _last_event(program: Program, spec: dict[str, Any], emit: Emit, stopping: threading.Event) -> dict[str, Any]:
    try:
        result = program(spec, emit, stopping)
    except BadInput as error:
        faults = [{"pointer": f.pointer, "code": f.code, "detail": f.detail} for f in error.faults]
        return {"event": "failed", "code": error.code, "detail": error.detail, "errors": faults, "retry": False}
    except Refused as error:
        return {"event": "failed", "code": error.code, "detail": str(error), "retry": False}
    except Exception as error:
        log.exception("program_failed", reference=errors.reference(error))
        if is_disk_full(error):
            return {"event": "failed", "code": "storage_full", "detail": "no space is left on the disk", "retry": True}
        return {"event": "failed", **errors.describe(error, "the log of the job"), "retry": True}
    return {"event": "stopped"} if result is None else {"event": "finished", **result}


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)
