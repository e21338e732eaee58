"""Starts processes of the service as in production."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx

from tests.e2e.stack import Caller


@contextmanager
def process(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module for the block; then send SIGTERM, and require that it exits."""
    started = subprocess.Popen([sys.executable, "-m", *arguments], env=environment)
    try:
        yield started
    finally:
        started.terminate()
        # uvicorn raises the signal again after its graceful shutdown; a test may have killed the process
        assert started.wait(30) in (0, -signal.SIGTERM, -signal.SIGKILL)


def sensorium(environment: dict[str, str], *arguments: str) -> str:
    """The standard output of a `sensorium` command."""
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def answers(caller: Caller) -> bool:
    """Whether the API responds and is ready."""
    try:
        return caller.http.get("/readyz").is_success
    except httpx.TransportError:
        return False
