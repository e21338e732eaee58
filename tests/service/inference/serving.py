"""An API process of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx

from service.shared.settings import Settings
from tests import fork_server
from tests.conftest import wait_until
from tests.servers import free_port

STOP_SECONDS = 20


@contextmanager
def api(settings: Settings) -> Iterator[str]:
    """A running process with these settings; yields its URL."""
    with api_process(settings) as (url, _):
        yield url


@contextmanager
def api_process(settings: Settings) -> Iterator[tuple[str, int]]:
    """A running process with these settings; yields its URL and process id."""
    port = free_port()
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(settings.home),
        "SENSORIUM_BROKER": settings.broker,
        "SENSORIUM_PORT": str(port),
        "SENSORIUM_INFERENCE_BACKEND": settings.inference_backend,
        "SENSORIUM_INFERENCE_REPLY_SECONDS": str(settings.inference_reply_seconds),
        "SENSORIUM_SECRET_KEY": settings.secret_key.get_secret_value() if settings.secret_key else "",
        "SENSORIUM_LOG_LEVEL": "WARNING",
    }
    process = fork_server.run("service.cli", "api", env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), 60, "the API answers")
        yield url, process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False
