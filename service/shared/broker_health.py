"""Whether the broker answers, for readiness checks."""

import time

from redis import Redis
from redis.exceptions import RedisError

# A readiness check does not wait long, and frequent checks share one request to Redis.
REDIS_SECONDS = 0.5
KEPT_SECONDS = 1.0


class BrokerWatch:
    """Asks Redis at most once per `KEPT_SECONDS`. A broker that is a folder always answers."""

    def __init__(self, url: str) -> None:
        self._redis: Redis | None = None
        if url.startswith("redis"):
            self._redis = Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
        self._answered = True
        self._asked_at = -KEPT_SECONDS

    def answers(self) -> bool:
        """Whether Redis answered the last request."""
        if self._redis is not None and time.monotonic() - self._asked_at > KEPT_SECONDS:
            try:
                self._answered = bool(self._redis.ping())
            except (RedisError, OSError):
                self._answered = False
            self._asked_at = time.monotonic()
        return self._answered
