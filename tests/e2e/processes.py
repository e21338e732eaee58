"""Processes of ours, started as in production."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx

from tests.e2e.stack import Caller


@contextmanager
def process(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A module run by Python; at the end it is told to stop, and must."""
    started = subprocess.Popen([sys.executable, "-m", *arguments], env=environment)
    try:
        yield started
    finally:
        started.terminate()
        # uvicorn passes the signal on once it has drained; a test may have killed it
        assert started.wait(30) in (0, -signal.SIGTERM, -signal.SIGKILL)


def sensorium(environment: dict[str, str], *arguments: str) -> str:
    """What a command of ours prints."""
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def answers(caller: Caller) -> bool:
    """Whether the API is ready."""
    try:
        return caller.http.get("/readyz").is_success
    except httpx.TransportError:
        return False
