"""HTTP plumbing that every route shares: who calls, what a route can reach, and paging."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from celery import Celery
from fastapi import Depends, Query, Request
from pydantic import AwareDatetime, Field

from service.access.key_cache import KeyCache
from service.access.operations import Principal
from service.access.rate_limiter import Limiter
from service.http.bulk_lane import BulkLane
from service.shared.database import Database
from service.shared.errors import Fault, NotOurs
from service.shared.settings import Settings
from service.shared.signing import Forged, Signer
from service.shared.storage import Storage

LARGEST_PAGE = 200
PRINCIPAL = "principal"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Services:
    """What the process has opened once and every route may use."""

    settings: Settings
    database: Database
    storage: Storage
    messages: Celery
    keys: KeyCache
    limiter: Limiter
    signer: Signer
    bulk: BulkLane


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _web(request: Request) -> Services:
    # async, as all our dependencies that do not wait: FastAPI sends a plain function through a thread
    return _services(request)


Web = Annotated[Services, Depends(_web)]


async def _caller(request: Request) -> Principal:
    principal: Principal = request.scope[PRINCIPAL]  # a `AuthenticatedRoute` has found it
    return principal


Caller = Annotated[Principal, Depends(_caller)]


# Ids begin with the milliseconds since 1970, and neither bound leaves the calendar in another time zone.
Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9999, 12, 30, tzinfo=UTC))]


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for: at most `size` items behind the id `after`."""

    size: int
    after: str | None
    token_of: Callable[[str], str]

    def cut(self, found: Sequence[tuple[str, Item]]) -> tuple[list[Item], str | None]:
        """The page's items of (id, item) pairs, one more than `size` asked for, and the next page's token if any."""
        shown = found[: self.size]
        token = None
        if len(found) > self.size:
            token = self.token_of(shown[-1][0])
        return [item for _, item in shown], token


async def _page(
    request: Request,
    services: Web,
    page_size: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Most items in the answer.")] = 50,
    page_token: Annotated[str | None, Query(description="`next_page_token` of the page before.")] = None,
) -> Page:
    purpose = f"page of {request.scope['path']}"

    def token_of(last: str) -> str:
        return services.signer.sign(purpose, last)

    if page_token is None:
        return Page(page_size, None, token_of)
    try:
        return Page(page_size, services.signer.read(purpose, page_token), token_of)
    except Forged as error:
        detail = f"page_token is {page_token[:40]!r}, expected the next_page_token of this list's page before"
        raise NotOurs([Fault("?page_token", "invalid_page_token", detail)], "invalid_page_token") from error


Paging = Annotated[Page, Depends(_page)]
