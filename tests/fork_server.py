"""Processes of jobs that start without the seconds that their imports take.

`start` keeps one server process per program. The server has imported the program, and forks for each job. The forked
process runs the program as `python -m MODULE` does: in its own session, with its own pipes.
`tests.worker.test_child_process` compares both. Tests of trainers and of whole stacks start new interpreters.
"""

import atexit
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, cast

from worker.child_process import start_process

# pytest sets the first; `worker.ingest` and scikit-learn set the others when they are imported.
IGNORED = ("PYTEST_CURRENT_TEST", "ARROW_DEFAULT_MEMORY_POOL", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")


def start(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """The process of `worker.child_process.start_process`.

    It is forked if it would have the environment and the folder that its server has.
    """
    if len(arguments) > 1:
        return start_process(arguments)
    server = _server(arguments[0])
    return server.fork() if server.surroundings == _surroundings() else start_process(arguments)


class _Forked:
    """What a supervisor uses of `subprocess.Popen`. status: the pipe that gets the process id, then the wait status."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes], status: IO[bytes]) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.pid = int(status.readline())
        self.returncode: int | None = None
        self._status = status

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._status.readline()))
            self._status.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


class _Server:
    """A process that has imported a module."""

    def __init__(self, module: str) -> None:
        self.surroundings = _surroundings()
        self._socket, its = socket.socketpair()
        command = [sys.executable, "-m", __name__, module, str(its.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[its.fileno()], start_new_session=True)
        its.close()
        atexit.register(self._close)

    def fork(self) -> "subprocess.Popen[bytes]":
        (its_input, our_input), *others = (os.pipe() for _ in range(4))
        its = [its_input, *(written for _, written in others)]
        socket.send_fds(self._socket, [b"f"], its)
        for file in its:
            os.close(file)
        forked = _Forked(os.fdopen(our_input, "wb"), *(os.fdopen(read, "rb") for read, _ in others))
        return cast("subprocess.Popen[bytes]", forked)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _server(module: str) -> _Server:
    return _Server(module)


def _surroundings() -> tuple[dict[str, str], Path]:
    return {name: value for name, value in os.environ.items() if name not in IGNORED}, Path.cwd()


def _serve(module: str, server: socket.socket) -> None:
    """Fork until the tests end. Returns in the server, and in each forked process after its program."""
    importlib.import_module(module)
    del sys.modules[module]  # it runs as `__main__`
    gc.freeze()  # forked processes share the memory of the imports
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, *_ = socket.recv_fds(server, 1, 4)
        if not message:
            return
        if os.fork() == 0:
            server.close()
            if _is_program(files):
                sys.argv = [module]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            return
        for file in files:
            os.close(file)


def _is_program(files: list[int]) -> bool:
    """Fork once more. True in the process of the program; False in its parent, after it has reported the status."""
    *pipes, status = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    program = os.fork()
    if program == 0:
        os.setsid()
        os.write(status, b"%d\n" % os.getpid())
    for number, file in enumerate(pipes):
        if program == 0:
            os.dup2(file, number)
        os.close(file)
    if program != 0:
        os.write(status, b"%d\n" % os.waitpid(program, 0)[1])
    os.close(status)
    return program == 0


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
