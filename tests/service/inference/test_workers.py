"""Workers that are killed, stopped, or disconnected from Redis."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import torch
from pydantic import SecretStr
from redis import Redis

from models.architectures import build
from models.config import MMVAEConfig, ModalityConfig
from models.io import checkpoint
from service.access import operations as access
from service.registry import operations as registry
from service.registry.schemas import Lineage
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import from_settings, record
from tests import schema, servers
from tests.conftest import need, wait_until
from tests.service.inference.serving import api
from tests.service.inference.workers import infer_worker
from tests.service.steps import problem

PATH = "/v1/models/m/versions/1/encode"
BODY = {"inputs": {"a": [[0.5, -1.0]]}}
CONFIG = MMVAEConfig(modalities=(ModalityConfig(name="a", shape=(2,), likelihood="gaussian"),), latent_features=3)
NO_LINEAGE = dict.fromkeys(("run", "attempt", "dataset", "dataset_version", "dataset_sha256", "seed"))
# The time for a worker to answer a batch: seconds, because the machine may be busy.
REPLY_SECONDS = 2.0
PATIENT_SECONDS = 10.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, servers.Server]]:
    """A Redis server that only this test uses and stops."""
    need(servers.redis_binary(), "Redis")
    with servers.redis_process(tmp_path / "redis") as running:
        yield running


@contextmanager
def served(
    home: Path, broker: str, reply_seconds: float = PATIENT_SECONDS
) -> Iterator[tuple[Settings, httpx.AsyncClient]]:
    """An API process with a model, and its client; no worker runs yet."""
    settings = Settings(
        home=home,
        broker=broker,
        inference_backend="celery",
        secret_key=SecretStr("k" * 32),
        inference_reply_seconds=reply_seconds,
    )
    home.mkdir()
    schema.install(settings.database_url)
    database = Database(settings.database_url)
    torch.manual_seed(0)
    checkpoint.save(build(CONFIG), home / "checkpoint", {})
    with database.writer.begin() as session:
        project = access.create_project(session, "test")
        session.flush()
        _, key = access.create_key(session, project.id, "test")
        file = record(session, from_settings(settings).adopt(project.id, home / "checkpoint"), None)
        lineage = Lineage.model_validate({**NO_LINEAGE, "libraries": {}})
        registry.add_version(session, project.id, "m", file.id, CONFIG.model_dump(mode="json"), {}, lineage)
    database.close()
    with api(settings) as url:
        yield settings, httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def orders_in(url: str) -> int:
    """The number of batches in Redis that wait for a worker."""
    return int(Redis.from_url(url).llen("infer"))


async def load(client: httpx.AsyncClient, count: int, clients: int, meanwhile: Any) -> list[httpx.Response]:
    """Requests from several clients, each one after the other; after half of them `change` is called."""
    answers: list[httpx.Response] = []

    async def ask() -> None:
        while len(answers) < count:
            answers.append(await client.post(PATH, json=BODY))
            if len(answers) == count // 2:
                meanwhile()

    await asyncio.gather(*(ask() for _ in range(clients)))
    return answers


@pytest.mark.slow
def test_killing_a_worker_fails_its_current_batches_only(redis: tuple[str, servers.Server], tmp_path: Path) -> None:
    with (
        served(tmp_path / "home", redis[0]) as (settings, client),
        infer_worker(settings) as first,
        infer_worker(settings),
    ):
        answers = asyncio.run(load(client, 2000, 16, first.kill))
    failed = [answer for answer in answers if answer.status_code != 200]
    assert all(answer.status_code == 503 and "retry-after" in answer.headers for answer in failed)
    assert all(answer.json()["code"] == "inference_unavailable" for answer in failed)
    assert len(failed) <= 16  # no client failed twice


@pytest.mark.slow
def test_stopping_a_worker_fails_no_request(redis: tuple[str, servers.Server], tmp_path: Path) -> None:
    with (
        served(tmp_path / "home", redis[0]) as (settings, client),
        infer_worker(settings) as first,
        infer_worker(settings),
    ):
        answers = asyncio.run(load(client, 2000, 16, lambda: first.send_signal(signal.SIGTERM)))
        wait_until(lambda: first.poll() is not None, 20, "the worker has ended")
    assert {answer.status_code for answer in answers} == {200}


def test_without_workers_or_redis_inference_is_unavailable_and_recovers(
    redis: tuple[str, servers.Server], tmp_path: Path
) -> None:
    url, server = redis

    async def ask() -> httpx.Response:
        return await client.post(PATH, json=BODY)

    async def cut_off() -> httpx.Response:
        sent = orders_in(url)
        asking = asyncio.create_task(ask())
        while orders_in(url) == sent:  # then it waits for a worker; none is running
            await asyncio.sleep(0.01)
        server.restart(signal.SIGKILL)
        return await asking

    async def hurt() -> None:
        unanswered = problem(await ask(), 503, "inference_unavailable")
        assert f"no infer worker has answered within {REPLY_SECONDS:g} s" in unanswered["detail"]
        lost = problem(await cut_off(), 503, "inference_unavailable")
        assert "the connection on which answers come was lost" in lost["detail"]  # before the time-out

    async def recovered() -> bool:
        return (await ask()).status_code == 200

    with served(tmp_path / "home", url, REPLY_SECONDS) as (settings, client), asyncio.Runner() as runner:
        runner.run(hurt())
        server.wait_until_ready()
        with infer_worker(settings):
            wait_until(lambda: runner.run(recovered()), 30, "answers come again")
