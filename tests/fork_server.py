"""Processes that start without the seconds that their imports take.

There is one server process per program. The server has imported the program, and forks for each process. The forked
process runs the program as `python -m MODULE ARGUMENTS` does. `tests.worker.test_child_process` compares both. Tests of
trainers, of the command line and of whole stacks start new interpreters.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, cast

from worker.child_process import start_process

# What a program imports when it runs.
LATER = {"service.cli": ["service.cli.serving"], "worker.app": ["models.predictor"]}
# Beginnings of variables that count when a process starts or imports. The others are set again in a forked process.
READ_AT_START = ("PYTHON", "LD_", "OMP_", "MKL_")
REQUEST_BYTES = 2**18


def start(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """The process of `worker.child_process.start_process`."""
    if len(arguments) > 1 or not _server(arguments[0]).fits(os.environ):
        return start_process(arguments)
    (its_input, our_input), (our_output, its_output), (our_errors, its_errors) = (os.pipe() for _ in range(3))
    forked = _server(arguments[0]).fork([], os.environ, (its_input, its_output, its_errors))
    for file in (its_input, its_output, its_errors):
        os.close(file)
    forked.stdin = os.fdopen(our_input, "wb")
    forked.stdout, forked.stderr = os.fdopen(our_output, "rb"), os.fdopen(our_errors, "rb")
    return cast("subprocess.Popen[bytes]", forked)


def run(
    module: str, *arguments: str, env: Mapping[str, str], log: IO[bytes] | None = None
) -> "subprocess.Popen[bytes]":
    """`python -m MODULE ARGUMENTS` with an open standard input. log: the file for its output; by default ours."""
    if not _server(module).fits(env):
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log)
    its_input, our_input = os.pipe()
    output, errors = (1, 2) if log is None else (log.fileno(), log.fileno())
    forked = _server(module).fork(arguments, env, (its_input, output, errors))
    os.close(its_input)
    forked.stdin = os.fdopen(our_input, "wb")
    return cast("subprocess.Popen[bytes]", forked)


class _Forked:
    """What we use of `subprocess.Popen`. status: the pipe that gets the process id, then the wait status."""

    def __init__(self, status: IO[bytes]) -> None:
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
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

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Server:
    """A process that has imported a module."""

    def __init__(self, module: str) -> None:
        self._surroundings = _surroundings(os.environ)
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __name__, module, str(its.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[its.fileno()], start_new_session=True)
        its.close()
        atexit.register(self._close)

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether a new process would import the same: in the folder of the server, with the same variables."""
        return self._surroundings == _surroundings(environment)

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], files: tuple[int, int, int]) -> _Forked:
        """A process with these files as standard input, output and error."""
        request = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode()
        reported, status = os.pipe()
        socket.send_fds(self._socket, [request], [*files, status])
        os.close(status)
        return _Forked(os.fdopen(reported, "rb"))

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _server(module: str) -> _Server:
    return _Server(module)


def _surroundings(environment: Mapping[str, str]) -> tuple[dict[str, str], Path]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}, Path.cwd()


def _serve(module: str, server: socket.socket) -> None:
    """Fork until the tests end. Returns in the server, and in each forked process after its program."""
    for each in (module, *LATER.get(module, ())):
        importlib.import_module(each)
    if not hasattr(sys.modules[module], "__path__"):  # a package runs its `__main__` module
        del sys.modules[module]  # it runs as `__main__`
    gc.freeze()  # forked processes share the memory of the imports
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, files, *_ = socket.recv_fds(server, REQUEST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            server.close()
            if _is_program(files):
                gc.unfreeze()
                asked = json.loads(request)
                sys.argv = [module, *asked["arguments"]]
                os.environ.clear()
                os.environ.update(asked["environment"])
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
