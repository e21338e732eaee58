"""Whether the broker answers, for those who are asked whether they are ready."""

import time

from redis import Redis
from redis.exceptions import RedisError

# A readiness check does not wait long for what is away, and many checks cost no more than one.
REDIS_SECONDS = 0.5
KEPT_SECONDS = 1.0


class BrokerWatch:
    """Whether Redis answers; asked at most once in `KEPT_SECONDS`. A broker that is a folder is always there."""

    def __init__(self, url: str) -> None:
        self._redis: Redis | None = None
        if url.startswith("redis"):
            self._redis = Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
        self._answered = True
        self._asked_at = -KEPT_SECONDS

    def answers(self) -> bool:
        """Whether it did when it was asked last."""
        if self._redis is not None and time.monotonic() - self._asked_at > KEPT_SECONDS:
            try:
                self._answered = bool(self._redis.ping())
            except (RedisError, OSError):
                self._answered = False
            self._asked_at = time.monotonic()
        return self._answered
