"""Rate limits: requests per minute and project, counted in memory, or in Redis for all API processes together.

A process does not call Redis for every request: it reserves a few requests at a time. While Redis is unreachable, every
process counts separately.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute, WindowStats
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from service.shared.errors import TooMany
from service.shared.outage_log import Outage

log = structlog.get_logger(__name__)

# A process reserves this fraction of a minute's requests, so that the processes share the limit fairly.
RESERVED_FRACTION = 0.01
# Unused reserved requests expire after this time.
RESERVED_SECONDS = 2.0
# After a failure, Redis is not called for this time.
AWAY_SECONDS = 5.0
TIMEOUT_SECONDS = 0.25


@dataclass
class _Reserved:
    count: int
    until: float
    unreserved: int
    """Requests of the minute that no process had reserved then, as far as this process knows."""


class Limiter:
    """Counts the requests of projects. redis_url: the Redis that all processes share; None counts in memory."""

    def __init__(self, redis_url: str | None) -> None:
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = self._local
        if redis_url is not None:
            storage = RedisStorage(
                f"async+{redis_url}",
                wrap_exceptions=True,
                implementation="redispy",
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
            )
            self._shared = SlidingWindowCounterRateLimiter(storage)
        self._away_until = 0.0
        self._outage = Outage(log, "shared_rate_limit_failed", "shared_rate_limit_recovered")
        self._reserved: dict[str, _Reserved] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def take(self, project_id: str) -> bool:
        """Use one reserved request. Returns False if none is reserved."""
        reserved = self._reserved.get(project_id)
        if reserved is None or not reserved.count or time.monotonic() >= reserved.until:
            return False
        reserved.count -= 1
        return True

    def remaining(self, project_id: str) -> int:
        """An estimate of how many more requests a project may send now, without what others took since the last count.

        Only after `count`, or `take` that returned True.
        """
        reserved = self._reserved[project_id]
        return reserved.count + reserved.unreserved

    async def count(self, project_id: str, per_minute: int) -> None:
        """Count one request. Raises TooMany, with the seconds until the next request is allowed."""
        # One reservation serves concurrent requests; one reservation per request would use up the minute's limit.
        async with self._locks.setdefault(project_id, asyncio.Lock()):
            await self._count(project_id, per_minute)

    async def _count(self, project_id: str, per_minute: int) -> None:
        if self.take(project_id):
            return
        item, several = RateLimitItemPerMinute(per_minute), max(1, int(per_minute * RESERVED_FRACTION))
        if not await self._hit(item, project_id, several):
            if several == 1 or not await self._hit(item, project_id, 1):
                detail = f"the project has used its limit of {per_minute} requests per minute; wait, then try again"
                raise TooMany("rate_limited", detail, await self._wait(item, project_id))
            several = 1
        stats = await self._stats(item, project_id)
        until = time.monotonic() + RESERVED_SECONDS
        self._reserved[project_id] = _Reserved(several - 1, until, stats.remaining if stats is not None else 0)

    async def _hit(self, item: RateLimitItem, project_id: str, cost: int) -> bool:
        if time.monotonic() >= self._away_until:
            try:
                allowed = await self._shared.hit(item, project_id, cost=cost)
            except StorageError as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                self._outage.failed("redis", error.storage_error)
            else:
                self._outage.works("redis")
                return allowed
        return await self._local.hit(item, project_id, cost=cost)

    async def _wait(self, item: RateLimitItem, project_id: str) -> float:
        stats = await self._stats(item, project_id)
        return 1.0 if stats is None else max(1.0, stats.reset_time - time.time())

    async def _stats(self, item: RateLimitItem, project_id: str) -> WindowStats | None:
        """What is left of the limit; None if Redis has just become unreachable."""
        window = self._local
        if time.monotonic() >= self._away_until:
            window = self._shared
        try:
            return await window.get_window_stats(item, project_id)
        except StorageError:
            return None
