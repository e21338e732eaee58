"""Requests a minute of each project, counted in memory, or in Redis for all API processes together.

A process does not ask Redis for every request: it takes a few at a time and hands them out itself. While Redis is
away every process counts for itself.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from service.shared.errors import TooMany
from service.shared.outage_log import Outage

log = structlog.get_logger(__name__)

# Taken at a time: this part of a minute's requests, so that a project's processes share them fairly.
TAKEN_AT_ONCE = 0.01
# What was taken and not used is forgotten after so long.
KEPT_SECONDS = 2.0
# How long Redis is left alone once it did not answer.
AWAY_SECONDS = 5.0
TIMEOUT_SECONDS = 0.25


@dataclass
class _Taken:
    count: int
    until: float


class Limiter:
    """Counts the requests of projects. `redis_url`: where all processes count together; None counts in memory."""

    def __init__(self, redis_url: str | None) -> None:
        self._alone = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._together = self._alone
        if redis_url is not None:
            storage = RedisStorage(
                f"async+{redis_url}",
                wrap_exceptions=True,
                implementation="redispy",
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
            )
            self._together = SlidingWindowCounterRateLimiter(storage)
        self._away_until = 0.0
        self._outage = Outage(log, "rate_limits_counted_alone", "rate_limits_counted_together")
        self._taken: dict[str, _Taken] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def take(self, project_id: str) -> bool:
        """Use one of the requests that were taken before, if there is one."""
        taken = self._taken.get(project_id)
        if taken is None or not taken.count or time.monotonic() >= taken.until:
            return False
        taken.count -= 1
        return True

    async def count(self, project_id: str, per_minute: int) -> None:
        """Count one request. Raises TooMany, with the seconds after which one is allowed again."""
        # one takes for all who came at once: each for itself would use up the minute
        async with self._turns.setdefault(project_id, asyncio.Lock()):
            await self._count(project_id, per_minute)

    async def _count(self, project_id: str, per_minute: int) -> None:
        if self.take(project_id):
            return
        item, several = RateLimitItemPerMinute(per_minute), max(1, int(per_minute * TAKEN_AT_ONCE))
        if await self._hit(item, project_id, several):
            self._taken[project_id] = _Taken(several - 1, time.monotonic() + KEPT_SECONDS)
        elif several == 1 or not await self._hit(item, project_id, 1):
            detail = f"the project has made its {per_minute} requests of this minute"
            raise TooMany("rate_limited", detail, await self._wait(item, project_id))

    async def _hit(self, item: RateLimitItemPerMinute, project_id: str, cost: int) -> bool:
        if time.monotonic() >= self._away_until:
            try:
                allowed = await self._together.hit(item, project_id, cost=cost)
            except StorageError as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                self._outage.failed("redis", error.storage_error)
            else:
                self._outage.works("redis")
                return allowed
        return await self._alone.hit(item, project_id, cost=cost)

    async def _wait(self, item: RateLimitItemPerMinute, project_id: str) -> float:
        window = self._alone
        if time.monotonic() >= self._away_until:
            window = self._together
        try:
            return max(1.0, (await window.get_window_stats(item, project_id)).reset_time - time.time())
        except StorageError:
            return 1.0
