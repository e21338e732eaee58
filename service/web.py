"""HTTP plumbing that every route shares: who calls, what a route can reach, and paging."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from celery import Celery
from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.access.keys import KeyCache
from service.access.operations import Principal
from service.shared.database import Database
from service.shared.errors import BadInput, Fault, Unauthenticated
from service.shared.names import REFERENCE_PATTERN
from service.shared.settings import Settings
from service.shared.storage import Storage

LARGEST_PAGE = 200
MOST_FAULTS = 20

Item = TypeVar("Item")


@dataclass(frozen=True)
class Services:
    """What the process has opened once and every route may use."""

    settings: Settings
    database: Database
    storage: Storage
    messages: Celery
    keys: KeyCache


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _web(request: Request) -> Services:
    # async, as all our dependencies that do not wait: FastAPI sends a plain function through a thread
    return _services(request)


Web = Annotated[Services, Depends(_web)]

_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer sns_…`")


async def _caller(
    services: Web, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    return await _principal(services, credentials.credentials if credentials else None)


async def _principal(services: Services, token: str | None) -> Principal:
    if not token:
        raise Unauthenticated("missing_api_key", "send an API key: `Authorization: Bearer sns_…`")
    if known := services.keys.known(token):
        return known
    return await run_in_threadpool(services.keys.look_up, token)


Caller = Annotated[Principal, Depends(_caller)]
# For whole routers, so that no route of theirs can forget it.
KeyRequired = Depends(_caller)


async def _refuse_unknown_parameters(request: Request) -> None:
    """A filter that is misspelt must not be ignored."""
    route: APIRoute = request.scope["route"]
    known = _parameters(route.dependant)
    faults = [
        Fault(f"?{name[:100]}", "unknown_parameter", f"there is no parameter {name[:100]!r}, only {sorted(known)}")
        for name in dict.fromkeys(request.query_params)
        if name not in known
    ]
    if faults:
        raise BadInput(faults[:MOST_FAULTS])


def _parameters(dependant: Dependant) -> set[str]:
    names = {field.alias for field in dependant.query_params}
    return names.union(*(_parameters(needed) for needed in dependant.dependencies))


KnownParameters = Depends(_refuse_unknown_parameters)


class KeyFirst:
    """Turns strangers away before their body is read: FastAPI reads and parses it before it asks who calls."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            request = Request(scope)
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            try:
                await _principal(_services(request), token.strip() if kind.lower() == "bearer" else None)
            except Unauthenticated as error:
                await problems.answer(request, error)(scope, receive, send)
                return
            except (OperationalError, InterfaceError, TimeoutError):
                pass  # the route's own look-up fails too, where errors are rendered
        await self._app(scope, receive, send)


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for: at most `size` items behind the id `after`."""

    size: int
    after: str | None

    def cut(self, found: Sequence[tuple[str, Item]]) -> tuple[list[Item], str | None]:
        """The page's items of (id, item) pairs, one more than `size` asked for, and the next page's token if any."""
        shown = found[: self.size]
        token = None
        if len(found) > self.size:
            token = base64.urlsafe_b64encode(shown[-1][0].encode()).decode().rstrip("=")
        return [item for _, item in shown], token


async def _page(
    page_size: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Most items in the answer.")] = 50,
    page_token: Annotated[str | None, Query(description="`next_page_token` of the page before.")] = None,
) -> Page:
    if page_token is None:
        return Page(page_size, None)
    try:
        padded = page_token.encode() + b"=" * (-len(page_token) % 4)
        after = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        if not re.fullmatch(REFERENCE_PATTERN, after):
            raise ValueError
        return Page(page_size, after)
    except ValueError as error:
        detail = f"page_token {page_token[:40]!r} is none that a list has given"
        raise BadInput([Fault("?page_token", "invalid_page_token", detail)]) from error


Paging = Annotated[Page, Depends(_page)]
