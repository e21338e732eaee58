"""Answers that come over Redis: large ones, ones that cannot be read, and orders that nobody waits for."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from redis import Redis

from service.inference import remote, wire
from service.inference.backend import BackendAway, Computed
from service.inference.payload import Rows
from service.inference.questions import Loadable, Question
from service.inference.remote import CeleryBackend
from service.inference.wire import Kept, Order
from service.shared import broker
from service.shared.errors import TooLarge, Unavailable
from service.shared.settings import Settings
from worker import inference

QUESTION = Question(Loadable("v", "p", "m", 1, "0" * 64, 1), "encode")
REPLY_SECONDS = 5.0
ROWS = Rows(1, {"a": np.zeros((1, 2), np.float32)}, {"a": np.ones(1, bool)}, None)


class Telling:
    """An engine that answers with so many numbers."""

    def __init__(self, numbers: int) -> None:
        self.numbers = numbers
        self.asked = 0

    def answer(self, question: Question, rows: Rows, state: Any = None) -> dict[str, Any]:
        self.asked += 1
        return {"mean": np.arange(self.numbers, dtype=np.float32)[None]}


def _asked(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, take: Callable[[Redis, bytes], None], seconds: float = 30.0
) -> Computed:
    """What comes of a batch that `take` gets in place of a worker."""
    client = Redis.from_url(redis_url)
    monkeypatch.setattr(broker, "order", lambda messages, packed, expires: take(client, packed))

    async def ask() -> Computed:
        backend = CeleryBackend(broker.connect(Settings(broker=redis_url)), redis_url, REPLY_SECONDS, 2)
        await backend.open()
        try:
            await asyncio.wait_for(backend._connected.wait(), 60)
            return await backend.compute(QUESTION, [ROWS], None, seconds)
        finally:
            await backend.close()

    return asyncio.run(ask())


def test_an_answer_larger_than_a_channel_takes_arrives(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Telling(12_000_000)  # 48 MB; Redis cuts off who has 32 MB to read
    found = _asked(redis_url, monkeypatch, lambda client, packed: inference.answer(engine, client, packed))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.tree["mean"][0], np.arange(12_000_000, dtype=np.float32))
    assert not Redis.from_url(redis_url).keys("sensorium.answer.*")  # nothing of it stays


def test_what_cannot_be_read_is_left_alone(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Telling(3)

    def take(client: Redis, packed: bytes) -> None:
        channel = wire.read_order(packed).channel
        for nonsense in (b"", b"\xc1", b"\x93\x01\x02\x03", wire._pack({"id": "x", "tree": {}, "seconds": None})):
            client.publish(channel, nonsense)
        inference.answer(engine, client, packed)  # type: ignore[arg-type]

    assert _asked(redis_url, monkeypatch, take).tree["mean"].shape == (1, 3)


def test_an_order_is_worth_nothing_once_nobody_waits(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, orders = Telling(3), []

    def take(client: Redis, packed: bytes) -> None:
        order: Order = wire.read_order(packed)
        orders.append(order.expires_at - time.time())
        time.sleep(0.3)
        inference.answer(engine, client, packed)  # type: ignore[arg-type]

    with pytest.raises(BackendAway):
        _asked(redis_url, monkeypatch, take, seconds=0.2)
    assert orders[0] <= 0.2
    assert engine.asked == 0


def test_an_answer_that_is_kept_for_too_short_a_time_is_told_of_at_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(client: Redis, packed: bytes) -> None:
        order = wire.read_order(packed)
        client.publish(order.channel, wire.pack_kept(order.id, "sensorium.answer.none"))

    with pytest.raises(BackendAway, match="too short a time"):  # after REPLY_SECONDS it would be another reason
        _asked(redis_url, monkeypatch, take)


def test_who_fetches_a_large_answer_keeps_nobody_from_hearing_theirs(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, engine = Redis.from_url(redis_url), Telling(3)
    fetching = asyncio.Event()

    def take(packed: bytes) -> None:
        order = wire.read_order(packed)
        if order.rows.count == 2:
            client.publish(order.channel, wire.pack_kept(order.id, "sensorium.answer.large"))
        else:
            inference.answer(engine, client, packed)  # type: ignore[arg-type]

    async def fetch(kept: Kept) -> Computed:
        fetching.set()
        return await asyncio.Future()

    async def ask() -> Computed:
        backend = CeleryBackend(broker.connect(Settings(broker=redis_url)), redis_url, REPLY_SECONDS, 2)
        monkeypatch.setattr(backend, "_fetch", fetch)
        await backend.open()
        try:
            await asyncio.wait_for(backend._connected.wait(), 60)
            two = Rows(2, {"a": np.zeros((2, 2), np.float32)}, {"a": np.ones(2, bool)}, None)
            slow = asyncio.create_task(backend.compute(QUESTION, [two], None, 30.0))
            await asyncio.wait_for(fetching.wait(), 60)
            found = await backend.compute(QUESTION, [ROWS], None, 30.0)
            assert not slow.done()
            slow.cancel()
            return found
        finally:
            await backend.close()

    monkeypatch.setattr(broker, "order", lambda messages, packed, expires: take(packed))
    assert asyncio.run(ask()).tree["mean"].shape == (1, 3)


def test_an_answer_that_redis_does_not_take_fails_its_batch_alone(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Telling(1_000_000)
    memory = Redis.from_url(redis_url)

    def take(client: Redis, packed: bytes) -> None:
        memory.config_set("maxmemory", "1mb")
        inference.answer(engine, client, packed)  # type: ignore[arg-type]

    try:
        with pytest.raises(Unavailable, match=r"does not take the batch's answer of 4\d{6} bytes") as caught:
            _asked(redis_url, monkeypatch, take)
    finally:
        memory.config_set("maxmemory", "0")
    assert not isinstance(caught.value, BackendAway)  # the others of the batch are asked for alone


def test_rows_that_redis_never_takes_are_not_to_be_tried_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_SENT_BYTES", 100)
    with pytest.raises(TooLarge, match=r"a message of \d+ bytes, expected at most 100"):
        _asked(redis_url, monkeypatch, lambda client, packed: None)


def test_whatever_ends_the_listening_it_begins_anew(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, hear = Telling(3), CeleryBackend._hear
    heard: list[bytes] = []

    def stumble(backend: CeleryBackend, packed: bytes) -> None:
        heard.append(packed)
        if len(heard) == 1:
            raise ZeroDivisionError
        hear(backend, packed)

    monkeypatch.setattr(CeleryBackend, "_hear", stumble)
    client = Redis.from_url(redis_url)
    monkeypatch.setattr(broker, "order", lambda messages, packed, expires: inference.answer(engine, client, packed))  # type: ignore[arg-type]

    async def ask() -> Computed:
        backend = CeleryBackend(broker.connect(Settings(broker=redis_url)), redis_url, REPLY_SECONDS, 2)
        await backend.open()
        try:
            await asyncio.wait_for(backend._connected.wait(), 60)
            with pytest.raises(BackendAway, match="connection on which answers come was lost"):
                await backend.compute(QUESTION, [ROWS], None, 30.0)
            await asyncio.wait_for(backend._connected.wait(), 60)
            return await backend.compute(QUESTION, [ROWS], None, 30.0)
        finally:
            await backend.close()

    assert asyncio.run(ask()).tree["mean"].shape == (1, 3)
