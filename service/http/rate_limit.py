"""`RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11: structured fields (RFC 9651).

    RateLimit-Policy: "requests_per_minute";q=600;w=60
    RateLimit: "requests_per_minute";r=412;t=60

q requests in any w seconds are allowed, and about r are left for the next t seconds. On 429, r is 0, and t is the value
of `Retry-After`.
"""

from functools import lru_cache
from typing import Any

from starlette.types import Scope

from service.access.rate_limiter import Limiter
from service.shared.errors import TooMany

RATE_LIMIT = "rate_limit"
"""Where the scope of a request whose project has a limit has its header fields."""

NAME = "requests_per_minute"
WINDOW_SECONDS = 60

POLICY_FIELD, LIMIT_FIELD, RETRY_FIELD = "RateLimit-Policy", "RateLimit", "Retry-After"
FIELDS: dict[str, dict[str, Any]] = {
    POLICY_FIELD: {
        "description": "How many requests the project may send: `q` in any `w` seconds. All responses to a "
        "project with a limit have it, also errors.",
        "schema": {"type": "string"},
        "example": f'"{NAME}";q=600;w={WINDOW_SECONDS}',
    },
    LIMIT_FIELD: {
        "description": "About how many requests are left: `r` for the next `t` seconds. It is an estimate, because "
        "several processes count, each some requests at a time. Only if the project has a limit.",
        "schema": {"type": "string"},
        "example": f'"{NAME}";r=412;t={WINDOW_SECONDS}',
    },
    RETRY_FIELD: {
        "description": "Seconds until a repetition may succeed.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 7,
    },
}
"""The header fields of responses, as components of the OpenAPI document."""


def describe(document: dict[str, Any]) -> None:
    """Add the header fields to the operations that need a key: to successful responses and to status 429.

    The other errors have them too; to say so at each would make the document half as long again.
    """
    document["components"]["headers"] = FIELDS
    for operations in document["paths"].values():
        for operation in operations.values():
            if not operation.get("security"):
                continue
            for status, response in operation["responses"].items():
                if status < "300":
                    _add(response, POLICY_FIELD, LIMIT_FIELD)
                elif status == "429":
                    _add(response, POLICY_FIELD, LIMIT_FIELD, RETRY_FIELD)


def _add(response: dict[str, Any], *names: str) -> None:
    response.setdefault("headers", {}).update({name: {"$ref": f"#/components/headers/{name}"} for name in names})


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
