"""Rolling restart of all processes under load: no request fails."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.conftest import need, wait_until
from tests.e2e.processes import answers, sensorium
from tests.e2e.proxy import binary, proxy
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port

pytestmark = pytest.mark.slow

RATE = 100
BODY = {"inputs": {"audio": [[0.5, -1.0, 2.0]], "text": [None]}}
PAUSE_SECONDS = 1.5
STOP_SECONDS = 150


class Restartable:
    """A process of the service that can be stopped and started."""

    def __init__(self, environment: dict[str, str], *module: str) -> None:
        self._environment = environment
        self._command = [sys.executable, "-m", *module]
        self.process = self._started()

    def restart(self) -> None:
        """Send SIGTERM, require exit status 0, and start the process again."""
        self.stop()
        self.process = self._started()

    def stop(self) -> None:
        """Send SIGTERM, and wait for the exit."""
        self.process.terminate()
        assert self.process.wait(STOP_SECONDS) in (0, -signal.SIGTERM)

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self._environment)


@contextmanager
def running(environment: dict[str, str], *module: str) -> Iterator[Restartable]:
    """Run a process for the block."""
    started = Restartable(environment, *module)
    try:
        yield started
    finally:
        started.stop()


def test_no_request_fails_while_every_process_is_restarted(postgresql_url: str, redis_url: str, tmp_path: Path) -> None:
    need(binary(), "nginx")
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(tmp_path / "home"),
        "SENSORIUM_DATABASE": postgresql_url,
        "SENSORIUM_SECRET_KEY": secrets.token_hex(32),
        "SENSORIUM_BROKER": redis_url,
        "SENSORIUM_INFERENCE_BACKEND": "celery",
        "SENSORIUM_INFERENCE_REPLY_SECONDS": "60",  # a busy machine is a thousand times slower than an idle one
        "SENSORIUM_LOG_LEVEL": "WARNING",
    }
    sensorium(environment, "migrate")
    key = sensorium(environment, "key", "create", "test", "the test's")
    ports, engine_ports = ([free_port(), free_port()] for _ in range(2))
    with ExitStack() as stack:
        apis = [
            stack.enter_context(running(environment | {"SENSORIUM_PORT": str(port)}, "service.cli", "api"))
            for port in ports
        ]
        engines = {
            port: stack.enter_context(
                running(environment | {"SENSORIUM_METRICS_PORT": str(port)}, "service.cli", "worker", "infer")
            )
            for port in engine_ports
        }
        direct = [Caller(f"http://127.0.0.1:{port}", key) for port in ports]
        for caller in direct:
            wait_until(lambda caller=caller: answers(caller), 60, "the API")  # type: ignore[misc]
        for port in engines:
            wait_until(lambda port=port: is_ready(port), 60, "the infer worker")  # type: ignore[misc]
        with (
            running(environment, "service.cli", "worker", "data"),
            running(environment, "service.cli", "worker", "train"),
        ):
            direct[0].dataset("small")
            direct[0].wait_for_state(direct[0].submit("small"), *FINAL)
        url = stack.enter_context(proxy(tmp_path / "proxy", ports))
        outcomes, streams = asyncio.run(_load(url, key, direct, apis, engines))
    assert set(outcomes) == {"encode 200", "get 200", "create 201"}, outcomes
    assert outcomes["encode 200"] > 5 * RATE
    assert streams >= 2  # processes closed the event stream when they stopped, and the client reconnected


async def _load(
    url: str, key: str, direct: list[Caller], apis: list[Restartable], engines: dict[int, Restartable]
) -> tuple[Counter[str], int]:
    """Send requests through the proxy during the restarts. Returns the outcomes, and the number of event streams."""
    outcomes: Counter[str] = Counter()
    asking: set[asyncio.Task[None]] = set()
    restarting = asyncio.create_task(asyncio.to_thread(_restart_all, direct, apis, engines))
    limits = httpx.Limits(max_connections=200)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, limits=limits) as client:

        async def ask(kind: str, method: str, path: str, **request: object) -> None:
            try:
                answer = await client.request(method, path, **request)  # type: ignore[arg-type]
                why = "" if answer.is_success else f": {answer.json()['detail']}"
                outcomes[f"{kind} {answer.status_code}{why}"] += 1
            except httpx.TransportError as error:
                outcomes[f"{kind} {error!r}"] += 1

        created = await client.post("/v1/runs", json={"dataset": {"name": "small"}, "model": "followed"})
        following = asyncio.create_task(_follow(client, created.json()["id"]))
        began_at, number = time.perf_counter(), 0
        while not restarting.done():
            await asyncio.sleep(began_at + number / RATE - time.perf_counter())
            match number % 50:
                case 0:
                    body = {"dataset": {"name": "small"}, "model": "created"}
                    sent = ask("create", "POST", "/v1/runs", json=body, headers={"Idempotency-Key": f"n{number}"})
                case 10 | 20 | 30 | 40:
                    sent = ask("get", "GET", "/v1/models/small/versions/1")
                case _:
                    sent = ask("encode", "POST", "/v1/models/small/versions/1/encode", json=BODY)
            task = asyncio.create_task(sent)
            asking.add(task)
            task.add_done_callback(asking.discard)
            number += 1
        await restarting
        await asyncio.gather(*asking)
        following.cancel()
        streams = await following
    return outcomes, streams


async def _follow(client: httpx.AsyncClient, run_id: str) -> int:
    """Follow a run's events, and reconnect whenever the stream ends. Returns the number of connections."""
    streams, last = 0, "0"
    try:
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            async with client.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as answer:
                assert answer.status_code == 200
                streams += 1
                async for line in answer.aiter_lines():
                    if line.startswith("id:"):
                        last = line.removeprefix("id:").strip()
    except asyncio.CancelledError:
        return streams


def is_ready(port: int) -> bool:
    """Whether the worker with this metrics port is ready."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def _restart_all(direct: list[Caller], apis: list[Restartable], engines: dict[int, Restartable]) -> None:
    """Restart the processes one by one; each is ready before the next one stops."""
    for caller, api in zip(direct, apis, strict=True):
        time.sleep(PAUSE_SECONDS)
        api.restart()
        wait_until(lambda caller=caller: answers(caller), 60, "the API")  # type: ignore[misc]
    for port, engine in engines.items():
        time.sleep(PAUSE_SECONDS)
        engine.restart()
        wait_until(lambda port=port: is_ready(port), 60, "the infer worker")  # type: ignore[misc]
    time.sleep(PAUSE_SECONDS)
