"""An alias moves under load: no request fails, and the responses name the new version."""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import numpy as np
import pytest

from tests.conftest import wait_until
from tests.e2e.processes import answers, process, sensorium
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port

pytestmark = pytest.mark.slow

RATE = 200
WINDOW_SECONDS = 2.0
VERSIONS = 4
# Time until all processes serve the alias' new version: docs/registry.md.
EVERYWHERE_SECONDS = 2.0
BODY = {"inputs": {"audio": [[0.5, -1.0, 2.0]], "text": [None]}}


class Stack(NamedTuple):
    """Two API processes over the same data."""

    first: Caller
    second: Caller


@contextmanager
def stack(backend: str, database: str, broker: str, home: Path) -> Iterator[Stack]:
    """Two API processes with train and data workers; with the backend `celery`, also two `infer` workers."""
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(home),
        "SENSORIUM_DATABASE": database,
        "SENSORIUM_SECRET_KEY": secrets.token_hex(32),
        "SENSORIUM_BROKER": broker,
        "SENSORIUM_INFERENCE_BACKEND": backend,
        "SENSORIUM_INFERENCE_REPLY_SECONDS": "60",
        "SENSORIUM_LOG_LEVEL": "WARNING",
    }
    sensorium(environment, "migrate")
    key = sensorium(environment, "key", "create", "test", "the test's")
    ports = [free_port(), free_port()]
    with ExitStack() as processes:
        for port in ports:
            processes.enter_context(process(environment | {"SENSORIUM_PORT": str(port)}, "service.cli", "api"))
        callers = [Caller(f"http://127.0.0.1:{port}", key) for port in ports]
        for caller in callers:
            wait_until(lambda caller=caller: answers(caller), 60, "the API")  # type: ignore[misc]
        for queue in ("infer", "infer") if backend == "celery" else ():
            processes.enter_context(process(environment, "service.cli", "worker", queue))
        with (
            process(environment, "service.cli", "worker", "data"),
            process(environment, "service.cli", "worker", "train"),
        ):
            callers[0].dataset("small")
            run = callers[0].wait_for_state(callers[0].submit("small", checkpoint_epochs=3), *FINAL)
        for _ in range(VERSIONS - 1):  # versions with equal weights; an engine loads each of them
            callers[0].call("POST", "/v1/models/small/versions", json={"run": run["id"]})
        yield Stack(*callers)


@pytest.mark.parametrize("backend", ["local", "celery"])
def test_no_request_fails_while_an_alias_moves(
    backend: str, postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    with stack(backend, postgresql_url, redis_url, tmp_path / "home") as served:
        alias = "/v1/models/small/aliases/production"
        served.first.call("PUT", alias, json={"version": 1})
        asyncio.run(load(served, 1.0))  # warm up connections and caches
        for version in range(2, VERSIONS + 1):
            asked = asyncio.run(load(served, WINDOW_SECONDS, lambda v=version: move(served, alias, v)))
            assert {one.version for one in asked} <= {version - 1, version}
            found = served.first.call("GET", alias)
            assert (found["version"], found["pending_version"], found["error"]) == (version, None, None)
            time.sleep(EVERYWHERE_SECONDS)
            assert {asked.version for asked in asyncio.run(load(served, 1.0))} == {version}


class Asked(NamedTuple):
    """One answered request."""

    version: int
    seconds: float


def move(served: Stack, alias: str, version: int) -> None:
    """Move the alias to a version."""
    served.second.call("PUT", alias, json={"version": version})


def p99(window: list[Asked]) -> float:
    """The 99th percentile of the response times."""
    return float(np.percentile([asked.seconds for asked in window], 99))


async def load(served: Stack, seconds: float, meanwhile: Any = None) -> list[Asked]:
    """Send `RATE` requests per second to both processes in turn, without waiting for responses. All must succeed."""
    path = "/v1/models/small/aliases/production/encode"
    limits = httpx.Limits(max_connections=100)
    async with ExitAll(served, limits) as clients:
        turns = cycle(clients)

        async def ask() -> Asked:
            began_at = time.perf_counter()
            answer = await next(turns).post(path, json=BODY)
            assert answer.status_code == 200, answer.text
            return Asked(answer.json()["version"], time.perf_counter() - began_at)

        asking, began_at = [], time.perf_counter()
        for n in range(int(seconds * RATE)):
            await asyncio.sleep(began_at + n / RATE - time.perf_counter())
            asking.append(asyncio.create_task(ask()))
            if meanwhile is not None and n == RATE // 4:
                asking_to_move = asyncio.create_task(asyncio.to_thread(meanwhile))
        if meanwhile is not None:
            await asking_to_move
        return await asyncio.gather(*asking)


class ExitAll:
    """One client per process; closes all clients at the end."""

    def __init__(self, served: Stack, limits: httpx.Limits) -> None:
        self._clients = [
            httpx.AsyncClient(base_url=caller.http.base_url, headers=caller.http.headers, timeout=30, limits=limits)
            for caller in served
        ]

    async def __aenter__(self) -> list[httpx.AsyncClient]:
        return self._clients

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()
