"""A cache that refreshes entries in the background, so that a request in steady state needs no SQL."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")
Query = TypeVar("Query")
Value = TypeVar("Value")


class _Entry(NamedTuple, Generic[Value]):
    value: Value
    loaded_at: float


class StaleCache(Generic[Key, Query, Value]):
    """Caches the results of `load` under the key of the query.

    An entry older than `fresh_seconds` is reloaded in the background, and served until it is `stale_seconds` old.
    Concurrent requests for one key share one load. All methods except `invalidate` run in one event loop.
    """

    def __init__(
        self, load: Callable[[Query], Value], fresh_seconds: float, stale_seconds: float, max_entries: int
    ) -> None:
        self._load = load
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._max_entries = max_entries
        self._entries: dict[Key, _Entry[Value]] = {}
        self._loading: dict[Key, asyncio.Task[Value]] = {}
        self._invalidations = 0

    def cached(self, key: Key, query: Query) -> Value | None:
        """The cached value, or None. Starts a reload if the entry is no longer fresh."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = time.monotonic() - entry.loaded_at
        if age >= self._fresh_seconds and key not in self._loading:
            self._start(key, query)
        return entry.value if age < self._stale_seconds else None

    async def get(self, key: Key, query: Query) -> Value:
        """The value, from the cache or loaded. Raises the errors of `load`, which are not cached."""
        if (value := self.cached(key, query)) is not None:
            return value
        return await asyncio.shield(self._loading.get(key) or self._start(key, query))

    def invalidate(self, condition: Callable[[Value], bool]) -> None:
        """Remove the entries whose value meets the condition. Loads in progress are not cached either."""
        self._invalidations += 1
        for key, entry in list(self._entries.items()):
            if condition(entry.value):
                self._entries.pop(key, None)

    def _start(self, key: Key, query: Query) -> asyncio.Task[Value]:
        task = asyncio.create_task(self._reload(key, query))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # there may be no awaiter
        self._loading[key] = task
        return task

    async def _reload(self, key: Key, query: Query) -> Value:
        loaded_at, invalidations = time.monotonic(), self._invalidations
        try:
            value = await asyncio.to_thread(self._load, query)
        except BaseException:
            self._entries.pop(key, None)
            raise
        finally:
            del self._loading[key]
        if len(self._entries) >= self._max_entries:
            self._entries.clear()
        if invalidations == self._invalidations:
            self._entries[key] = _Entry(value, loaded_at)
        return value
