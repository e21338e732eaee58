"""Workers that are killed, told to stop, or cut off from those who wait for them."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import torch
from pydantic import SecretStr

from models import checkpoint
from models.architectures import build
from models.config import MMVAEConfig, ModalityConfig
from service import migrate
from service.access import operations as access
from service.registry import operations as registry
from service.registry.schemas import Lineage
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import from_settings, record
from service.shared.tables import ModelVersion
from tests import servers
from tests.conftest import need, wait_until
from tests.service.inference.serving import api
from tests.service.inference.workers import infer_worker

PATH = "/v1/models/m/versions/1/encode"
BODY = {"inputs": {"a": [[0.5, -1.0]]}}
CONFIG = MMVAEConfig(modalities=(ModalityConfig(name="a", shape=(2,), likelihood="gaussian"),), latent_features=3)
NO_LINEAGE = dict.fromkeys(("run", "attempt", "dataset", "dataset_version", "dataset_sha256", "seed"))
REPLY_SECONDS = 2.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, servers.Server]]:
    """A server of the test's own, to hurt."""
    need(servers.redis_binary(), "Redis")
    with servers.redis_process(tmp_path / "redis") as running:
        yield running


@contextmanager
def served(home: Path, broker: str) -> Iterator[tuple[Settings, httpx.AsyncClient]]:
    """An API process with a model, and a client of it; no worker yet."""
    settings = Settings(
        home=home,
        broker=broker,
        inference_backend="celery",
        secret_key=SecretStr("k" * 32),
        inference_reply_seconds=REPLY_SECONDS,
    )
    home.mkdir()
    migrate.upgrade(settings.database_url)
    database = Database(settings.database_url)
    torch.manual_seed(0)
    checkpoint.save(build(CONFIG), home / "checkpoint", {})
    with database.writer.begin() as session:
        project = access.create_project(session, "test")
        session.flush()
        _, key = access.create_key(session, project.id, "test")
        file = record(session, from_settings(settings).adopt(project.id, home / "checkpoint"))
        lineage = Lineage.model_validate({**NO_LINEAGE, "libraries": {}}).model_dump(mode="json")
        config = CONFIG.model_dump(mode="json")
        made = ModelVersion(artifact_id=file.id, config=config, metrics={}, lineage=lineage)
        registry.number(session, project.id, "m", made)
    database.close()
    with api(settings) as url:
        yield settings, httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)


async def load(client: httpx.AsyncClient, count: int, clients: int, meanwhile: Any) -> list[httpx.Response]:
    """As many requests from so many clients, one after the other each; half way through something happens."""
    answers: list[httpx.Response] = []

    async def ask() -> None:
        while len(answers) < count:
            answers.append(await client.post(PATH, json=BODY))
            if len(answers) == count // 2:
                meanwhile()

    await asyncio.gather(*(ask() for _ in range(clients)))
    return answers


def test_a_worker_that_is_killed_costs_what_it_had_in_hand(redis: tuple[str, servers.Server], tmp_path: Path) -> None:
    with (
        served(tmp_path / "home", redis[0]) as (settings, client),
        infer_worker(settings) as first,
        infer_worker(settings),
    ):
        answers = asyncio.run(load(client, 2000, 16, first.kill))
    failed = [answer for answer in answers if answer.status_code != 200]
    assert all(answer.status_code == 503 and "retry-after" in answer.headers for answer in failed)
    assert all(answer.json()["code"] == "inference_unavailable" for answer in failed)
    assert len(failed) <= 16  # nobody failed twice


def test_a_worker_that_is_told_to_stop_costs_nothing(redis: tuple[str, servers.Server], tmp_path: Path) -> None:
    with (
        served(tmp_path / "home", redis[0]) as (settings, client),
        infer_worker(settings) as first,
        infer_worker(settings),
    ):
        answers = asyncio.run(load(client, 2000, 16, lambda: first.send_signal(signal.SIGTERM)))
        wait_until(lambda: first.poll() is not None, 20, "the worker has ended")
    assert {answer.status_code for answer in answers} == {200}


def test_without_workers_and_without_redis_callers_are_told_and_it_all_comes_back(
    redis: tuple[str, servers.Server], tmp_path: Path
) -> None:
    url, server = redis

    async def ask() -> tuple[int, float]:
        began_at = time.monotonic()
        answer = await client.post(PATH, json=BODY)
        return answer.status_code, time.monotonic() - began_at

    async def cut_off() -> tuple[int, float]:
        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.3)  # it waits for a worker, of which there is none
        server.restart(signal.SIGKILL)
        return await asking

    async def hurt() -> None:
        status, seconds = await ask()
        assert status == 503
        assert REPLY_SECONDS <= seconds < REPLY_SECONDS + 2
        status, seconds = await cut_off()
        assert status == 503
        assert seconds < REPLY_SECONDS

    async def recovered() -> bool:
        return (await ask())[0] == 200

    with served(tmp_path / "home", url) as (settings, client), asyncio.Runner() as runner:
        runner.run(hurt())
        server.wait_until_ready()
        with infer_worker(settings):
            wait_until(lambda: runner.run(recovered()), 30, "answers come again")
