"""A real API process with its own database, started as an operator starts it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx2 as httpx

from tests.conftest import wait_until
from tests.e2e.processes import answers, process, sensorium
from tests.e2e.stack import Caller
from tests.servers import free_port

SECRET_KEY = "fixture-" * 8


def environment_of(home: Path, settings: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The environment of every process of an installation in `home`."""
    own = {"SENSORIUM_HOME": str(home), "SENSORIUM_SECRET_KEY": SECRET_KEY, "SENSORIUM_PORT": str(free_port())}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", **settings}


@contextmanager
def api(environment: Mapping[str, str], key: str = "none") -> Iterator[Caller]:
    """An API process over a migrated database; yields a client with a key."""
    with process(dict(environment), "service.cli", "api"):
        caller = Caller(f"http://127.0.0.1:{environment['SENSORIUM_PORT']}", key)
        wait_until(lambda: answers(caller), 60, "the API is ready")
        yield caller


def served_document(home: Path) -> httpx.Response:
    """The OpenAPI document as a running API answers it."""
    environment = environment_of(home)
    sensorium(environment, "migrate")
    with api(environment) as caller:
        return caller.http.get("/openapi.json")
