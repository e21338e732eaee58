"""`RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11: structured fields (RFC 9651).

    RateLimit-Policy: "requests_per_minute";q=600;w=60
    RateLimit: "requests_per_minute";r=412;t=60

q requests in any w seconds are allowed, and about r are left for the next t seconds. On 429, r is 0, and t is the value
of `Retry-After`.
"""

from functools import lru_cache

from starlette.types import Scope

from service.access.rate_limiter import Limiter
from service.shared.errors import TooMany

RATE_LIMIT = "rate_limit"
"""Where the scope of a request whose project has a limit has its header fields."""

NAME = "requests_per_minute"
WINDOW_SECONDS = 60

POLICY_FIELD, LIMIT_FIELD = "RateLimit-Policy", "RateLimit"


async def count(scope: Scope, limiter: Limiter, project_id: str, per_minute: int) -> None:
    """Count a request, and store the header fields of its response in the scope. Raises TooMany."""
    try:
        if not limiter.take(project_id):
            await limiter.count(project_id, per_minute)
    except TooMany as error:
        scope[RATE_LIMIT] = (_policy(per_minute), _limit(0, error.headers["Retry-After"]))
        raise
    scope[RATE_LIMIT] = (_policy(per_minute), _limit(limiter.remaining(project_id), WINDOW_SECONDS))


@lru_cache(1000)
def _policy(per_minute: int) -> tuple[bytes, bytes]:
    return POLICY_FIELD.lower().encode(), f'"{NAME}";q={per_minute};w={WINDOW_SECONDS}'.encode()


def _limit(remaining: int, seconds: int | str) -> tuple[bytes, bytes]:
    return LIMIT_FIELD.lower().encode(), f'"{NAME}";r={remaining};t={seconds}'.encode()
