"""The stale cache: shared loads, background reloads, expiry, errors and invalidation."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from service.shared.stale_cache import StaleCache


class Source:
    """A loader that records its queries, can change its value, and can be blocked."""

    def __init__(self) -> None:
        self.value = "first"
        self.queries: list[str] = []
        self.unblocked = threading.Event()
        self.unblocked.set()

    def __call__(self, query: str) -> str:
        self.queries.append(query)
        value = self.value
        assert self.unblocked.wait(60)
        if value == "missing":
            raise LookupError(query)
        return value


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_concurrent_requests_for_one_key_share_one_load() -> None:
    source = Source()

    async def load() -> list[str]:
        cache: StaleCache[str, str, str] = StaleCache(source, 10, 20, 100)
        return await asyncio.gather(*(cache.get("k", "q") for _ in range(20)))

    assert run(load()) == ["first"] * 20
    assert source.queries == ["q"]


def test_an_entry_that_is_not_fresh_is_served_during_its_reload() -> None:
    source = Source()

    async def load() -> list[str | None]:
        cache: StaleCache[str, str, str] = StaleCache(source, 0.05, 10, 100)
        values: list[str | None] = [await cache.get("k", "q")]
        source.value = "second"
        await asyncio.sleep(0.1)
        source.unblocked.clear()
        values += [cache.cached("k", "q"), cache.cached("k", "q")]  # one reload runs
        source.unblocked.set()
        deadline = time.monotonic() + 5
        while cache.cached("k", "q") != "second" and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return [*values, cache.cached("k", "q")]

    assert run(load()) == ["first", "first", "first", "second"]


def test_a_stale_entry_is_not_served() -> None:
    source = Source()

    async def load() -> str | None:
        cache: StaleCache[str, str, str] = StaleCache(source, 0.01, 0.05, 100)
        await cache.get("k", "q")
        source.unblocked.clear()
        await asyncio.sleep(0.1)
        value = cache.cached("k", "q")
        source.unblocked.set()
        return value

    assert run(load()) is None


def test_an_error_reaches_all_waiters_and_is_not_cached() -> None:
    source = Source()
    source.value = "missing"

    async def load() -> str:
        cache: StaleCache[str, str, str] = StaleCache(source, 10, 20, 100)
        errors = await asyncio.gather(*(cache.get("k", "q") for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in errors] == [LookupError] * 3
        source.value = "present"
        return await cache.get("k", "q")

    assert run(load()) == "present"


def test_cancelling_one_waiter_does_not_cancel_the_load() -> None:
    source = Source()
    source.unblocked.clear()

    async def load() -> str:
        cache: StaleCache[str, str, str] = StaleCache(source, 10, 20, 100)
        cancelled, waiter = (asyncio.create_task(cache.get("k", "q")) for _ in range(2))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        source.unblocked.set()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        return await waiter

    assert run(load()) == "first"


def test_a_load_that_was_invalidated_meanwhile_is_not_cached() -> None:
    source = Source()

    async def load() -> str | None:
        cache: StaleCache[str, str, str] = StaleCache(source, 10, 20, 100)
        source.unblocked.clear()
        loading = asyncio.create_task(cache.get("k", "q"))
        await asyncio.sleep(0.05)
        cache.invalidate(lambda value: True)
        source.unblocked.set()
        assert await loading == "first"
        return cache.cached("k", "q")

    assert run(load()) is None
