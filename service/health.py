"""Whether a process lives, and whether it can serve."""

import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import select

from service.web import Web

# Who asks whether all is well is not kept waiting by what is not, and many who ask cost no more than one.
REDIS_SECONDS = 0.5
KEPT_SECONDS = 1.0

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Requests can be served."""

    status: Literal["ok", "degraded"] = Field(
        description="degraded: jobs are accepted, and what `impaired` names waits or is refused."
    )
    impaired: list[str] = Field(description="The parts that are away: `broker`.")


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


@router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """Whether the process lives. In the event loop: threads may all wait for a database that hangs."""
    return Health(status="ok")


@router.get("/readyz", operation_id="readyz")
def readyz(request: Request, services: Web) -> Readiness:
    """Whether requests can be served. Without the database they cannot: 503. Without the broker most can."""
    with services.database.reader() as session:
        session.execute(select(1))
    if not request.app.state.broker_watch.answers():
        return Readiness(status="degraded", impaired=["broker"])
    return Readiness(status="ok", impaired=[])
