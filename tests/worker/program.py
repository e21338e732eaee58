"""`python -m tests.worker.program`: a supervised process that does what its spec says, for the tests of supervision."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from service.shared.errors import BadInput, Fault
from worker import protocol


def run(spec: dict[str, Any], emit: protocol.Emit, stopping: threading.Event) -> dict[str, Any] | None:
    """Does what `spec["do"]` names."""
    _say("this goes to the log")
    match spec["do"]:
        case "finish":
            emit({"event": "note", "level": "info", "type": "training", "message": "half way"})
            emit({"event": "progress", "phase": "training", "fraction": 0.5, "eta_seconds": 1.0, "n": 1})
            Path(spec["result"]).write_text("the result")
            return {"result": spec["result"], "n": 2}
        case "die":
            _say("last words")
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once" if not Path(spec["mark"]).exists():
            Path(spec["mark"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash" | "crash over a file":
            os.abort()
        case "exit":
            os._exit(3)
        case "refuse":
            raise protocol.Refused("unusable_data", "there is too little of it")
        case "bad input":
            raise BadInput([Fault("/a/1", "bad_value", "it is NaN")], code="dataset_rejected")
        case "find no space" if not Path(spec["mark"]).exists():
            Path(spec["mark"]).touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        case "break":
            raise _noted(7)
        case "break elsewhere":
            mark = Path(spec["mark"])
            attempt = 1 + int(mark.read_text() if mark.exists() else 0)
            mark.write_text(str(attempt))
            raise _noted(attempt)
        case "lose the network":
            raise ConnectionResetError("the store hung up")
        case "wait":
            Path(spec["mark"]).write_text(str(os.getpid()))
            emit({"event": "progress", "phase": "training", "fraction": 0.25, "eta_seconds": 9.0, "n": 1})
            stopping.wait()
            _say("stopped in order")
            return None
        case "finish when stopped":
            emit({"event": "progress", "phase": "training", "fraction": 0.25, "eta_seconds": 9.0, "n": 1})
            stopping.wait()
        case "ignore":
            emit({"event": "progress", "phase": "training", "fraction": 0.25, "eta_seconds": 9.0, "n": 1})
            threading.Event().wait()
        case "chatter":
            for n in range(10_000):
                _say(f"line {n} " + "x" * 100)
        case "print":
            sys.stdout.write('printed by a library\n{"event": "finished"}\n')
            sys.stdout.flush()
            subprocess.run(["/bin/echo", "printed by a child"], check=True)
        case "keep two checkpoints" | "return to the first checkpoint":
            for step in (1, 2) if spec["do"] == "keep two checkpoints" else (1, 2, 3):
                path = Path(spec["checkpoints"]) / f"step-{step}"
                path.write_bytes(bytes([step % 2]) * 1000)  # the third has the content of the first
                emit({"event": "checkpoint", "path": str(path), "step": step, "n": step})
        case "leave a child behind":
            child = subprocess.Popen(["/bin/sleep", "1000"])
            Path(spec["mark"]).write_text(str(child.pid))
            os.kill(os.getpid(), signal.SIGKILL)
    Path(spec["result"]).write_text("the result")
    return {"result": spec["result"], "n": 2}


def _noted(step: int) -> RuntimeError:
    error = RuntimeError("it broke")
    error.add_note(f"after {step} of 9 steps")
    return error


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    protocol.run(run)
