"""Ends the process that parses large bodies while it has one."""

import array
import fcntl
import os
import signal
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import wait_until
from tests.contract.error_target import Answer, Target
from tests.contract.provocations import model_requests
from tests.contract.provocations.case import Case

LARGE = b" " * 200_000


def killed(target: Target, case: Case) -> Answer:
    """The answer to a large body whose parser is killed when it has begun to receive it."""
    model_requests.ask(target, case, content=LARGE)  # starts the process; it refuses the body
    parser = _parser_of(target.pid)
    os.kill(parser, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(model_requests.ask, target, case, content=LARGE)
        try:
            wait_until(lambda: _unread_bytes(parser) > 0, 30, "the stopped parser has a body")
        finally:
            os.kill(parser, signal.SIGKILL)
        return asked.result()


def _parser_of(api: int) -> int:
    """The process of the API that parses bodies."""
    children = [
        int(child) for tasks in Path(f"/proc/{api}/task").glob("*/children") for child in tasks.read_text().split()
    ]
    (found,) = [child for child in children if b"parser_process" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return found


def _unread_bytes(process: int) -> int:
    """The bytes in the pipe of a process's standard input."""
    count = array.array("i", [0])
    with Path(f"/proc/{process}/fd/0").open("rb", buffering=0) as pipe:
        fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
