"""Answers over Redis: large ones, unreadable ones, and batches that have expired."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from redis import Redis

from service.inference import celery_backend, task_encoding
from service.inference.backend import BackendUnavailable, Computed
from service.inference.celery_backend import CeleryBackend
from service.inference.queries import Computation, Loadable
from service.inference.rows import Rows
from service.inference.task_encoding import Order, Stored
from service.shared import broker
from service.shared.errors import TooLarge, Unavailable
from service.shared.settings import Settings
from worker import inference

COMPUTATION = Computation(Loadable("v", "p", "m", 1, "0" * 64, 1), "encode")
REPLY_SECONDS = 5.0
ROWS = Rows(1, {"a": np.zeros((1, 2), np.float32)}, {"a": np.ones(1, bool)}, None)


class Constant:
    """An engine that answers with `numbers` numbers."""

    def __init__(self, numbers: int) -> None:
        self.numbers = numbers
        self.asked = 0

    def answer(self, computation: Computation, rows: Rows, state: Any = None) -> dict[str, Any]:
        self.asked += 1
        return {"mean": np.arange(self.numbers, dtype=np.float32)[None]}


def _asked(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, take: Callable[[Redis, bytes], None], seconds: float = 30.0
) -> Computed:
    """The answer of a batch that `take` computes instead of a worker."""
    client = Redis.from_url(redis_url)
    monkeypatch.setattr(broker, "order", lambda messages, packed, expires: take(client, packed))

    async def ask() -> Computed:
        backend = CeleryBackend(broker.connect(Settings(broker=redis_url)), redis_url, REPLY_SECONDS, 2)
        await backend.open()
        try:
            await asyncio.wait_for(backend._connected.wait(), 60)
            return await backend.compute(COMPUTATION, [ROWS], None, seconds)
        finally:
            await backend.close()

    return asyncio.run(ask())


def test_an_answer_too_large_to_publish_arrives(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Constant(12_000_000)  # 48 MB; Redis disconnects a subscriber with 32 MB to read
    found = _asked(redis_url, monkeypatch, lambda client, packed: inference.answer(engine, client, packed))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.tree["mean"][0], np.arange(12_000_000, dtype=np.float32))
    assert not Redis.from_url(redis_url).keys("sensorium.answer.*")  # it was deleted


def test_unreadable_answers_are_ignored(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Constant(3)

    def take(client: Redis, packed: bytes) -> None:
        channel = task_encoding.unpack_order(packed).channel
        incomplete = msgpack.packb({"id": "x", "tree": {}})
        for nonsense in (b"", b"\xc1", b"\x93\x01\x02\x03", incomplete):
            client.publish(channel, nonsense)
        inference.answer(engine, client, packed)  # type: ignore[arg-type]

    assert _asked(redis_url, monkeypatch, take).tree["mean"].shape == (1, 3)


def test_an_expired_batch_is_not_computed(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, orders = Constant(3), []

    def take(client: Redis, packed: bytes) -> None:
        order: Order = task_encoding.unpack_order(packed)
        orders.append(order.expires_at - time.time())
        time.sleep(0.3)
        inference.answer(engine, client, packed)  # type: ignore[arg-type]

    with pytest.raises(BackendUnavailable):
        _asked(redis_url, monkeypatch, take, seconds=0.2)
    assert orders[0] <= 0.2
    assert engine.asked == 0


def test_a_stored_answer_that_has_expired_fails_its_batch_at_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(client: Redis, packed: bytes) -> None:
        order = task_encoding.unpack_order(packed)
        client.publish(order.channel, task_encoding.pack_stored(order.id, "sensorium.answer.none"))

    with pytest.raises(BackendUnavailable, match="has expired"):  # after REPLY_SECONDS the reason would be the time-out
        _asked(redis_url, monkeypatch, take)


def test_other_answers_arrive_while_a_large_one_is_fetched(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, engine = Redis.from_url(redis_url), Constant(3)
    fetching = asyncio.Event()

    def take(packed: bytes) -> None:
        order = task_encoding.unpack_order(packed)
        if order.rows.count == 2:
            client.publish(order.channel, task_encoding.pack_stored(order.id, "sensorium.answer.large"))
        else:
            inference.answer(engine, client, packed)  # type: ignore[arg-type]

    async def fetch(stored: Stored) -> Computed:
        fetching.set()
        return await asyncio.Future()

    async def ask() -> Computed:
        backend = CeleryBackend(broker.connect(Settings(broker=redis_url)), redis_url, REPLY_SECONDS, 2)
        monkeypatch.setattr(backend, "_fetch", fetch)
        await backend.open()
        try:
            await asyncio.wait_for(backend._connected.wait(), 60)
            two = Rows(2, {"a": np.zeros((2, 2), np.float32)}, {"a": np.ones(2, bool)}, None)
            slow = asyncio.create_task(backend.compute(COMPUTATION, [two], None, 30.0))
            await asyncio.wait_for(fetching.wait(), 60)
            found = await backend.compute(COMPUTATION, [ROWS], None, 30.0)
            assert not slow.done()
            slow.cancel()
            return found
        finally:
            await backend.close()

    monkeypatch.setattr(broker, "order", lambda messages, packed, expires: take(packed))
    assert asyncio.run(ask()).tree["mean"].shape == (1, 3)


def test_an_answer_that_redis_refuses_fails_its_batch_only(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Constant(1_000_000)
    memory = Redis.from_url(redis_url)

    def take(client: Redis, packed: bytes) -> None:
        memory.config_set("maxmemory", "1mb")
        inference.answer(engine, client, packed)  # type: ignore[arg-type]

    try:
        with pytest.raises(Unavailable, match=r"does not take the batch's answer of 4\d{6} bytes") as caught:
            _asked(redis_url, monkeypatch, take)
    finally:
        memory.config_set("maxmemory", "0")
    assert not isinstance(caught.value, BackendUnavailable)  # the requests of the batch are computed one by one


def test_rows_too_large_for_redis_are_refused_for_good(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_backend, "MAX_SENT_BYTES", 100)
    with pytest.raises(TooLarge, match=r"a message of \d+ bytes, expected at most 100"):
        _asked(redis_url, monkeypatch, lambda client, packed: None)


def test_any_error_while_listening_reconnects(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, receive = Constant(3), CeleryBackend._receive
    received: list[bytes] = []

    def fail_first(backend: CeleryBackend, packed: bytes) -> None:
        received.append(packed)
        if len(received) == 1:
            raise ZeroDivisionError
        receive(backend, packed)

    monkeypatch.setattr(CeleryBackend, "_receive", fail_first)
    client = Redis.from_url(redis_url)
    monkeypatch.setattr(broker, "order", lambda messages, packed, expires: inference.answer(engine, client, packed))  # type: ignore[arg-type]

    async def ask() -> Computed:
        backend = CeleryBackend(broker.connect(Settings(broker=redis_url)), redis_url, REPLY_SECONDS, 2)
        await backend.open()
        try:
            await asyncio.wait_for(backend._connected.wait(), 60)
            with pytest.raises(BackendUnavailable, match="connection on which answers come was lost"):
                await backend.compute(COMPUTATION, [ROWS], None, 30.0)
            await asyncio.wait_for(backend._connected.wait(), 60)
            return await backend.compute(COMPUTATION, [ROWS], None, 30.0)
        finally:
            await backend.close()

    assert asyncio.run(ask()).tree["mean"].shape == (1, 3)
