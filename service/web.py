"""HTTP plumbing that every route shares: who calls, what a route can reach, and paging."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from celery import Celery
from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBasic, HTTPBearer
from pydantic import AwareDatetime, Field
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.access import audit, scopes
from service.access.keys import KeyCache
from service.access.limiter import Limiter
from service.access.operations import Principal
from service.access.quotas import Quotas, effective
from service.shared.database import Database
from service.shared.errors import BadInput, Fault, NotOurs, TooMany, Unauthenticated
from service.shared.settings import Settings
from service.shared.signing import Forged, Signer
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
    limiter: Limiter
    signer: Signer

    def quotas(self, caller: Principal) -> Quotas:
        """The limits that hold for a caller's project."""
        return effective(caller.quotas, self.settings)


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _web(request: Request) -> Services:
    # async, as all our dependencies that do not wait: FastAPI sends a plain function through a thread
    return _services(request)


Web = Annotated[Services, Depends(_web)]

# For the document: `KeyFirst` has read the header before.
_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer sns_…`")
_basic = HTTPBasic(auto_error=False, description="An API key as the password; any user name.")


async def _caller(
    request: Request, services: Web, bearer: Annotated[Any, Depends(_bearer)], basic: Annotated[Any, Depends(_basic)]
) -> Principal:
    principal: Principal | None = request.scope.get("principal")
    if principal is None:
        principal = await _principal(services, _token(request))
    route: APIRoute = request.scope["route"]
    scope = scopes.needed(request.method, route.tags)
    scopes.require(scope, principal.scopes)
    if scope in scopes.CHANGING and request.method not in scopes.READING:
        audit.acting.set(_action(request, principal, route))
    return principal


def _action(request: Request, principal: Principal, route: APIRoute) -> audit.Action:
    return audit.Action(
        project_id=principal.project_id,
        key_id=principal.key_id,
        action=route.operation_id or route.name,
        resource=request.scope["path"],
        request_id=request.scope.get("request_id"),
        client=request.client.host if request.client else None,
    )


def _token(request: Request) -> str | None:
    """The key that a request brings: as a bearer's token, or as the password of a client that knows only those."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return given.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return None
    return None


async def _principal(services: Services, token: str | None) -> Principal:
    if not token:
        detail = "send an API key: `Authorization: Bearer sns_…`, or as the password of Basic"
        raise Unauthenticated("missing_api_key", detail)
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
    """Turns away strangers, and projects that ask too often, before the body is read: FastAPI reads and parses it
    before it asks who calls.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            request = Request(scope)
            services = _services(request)
            try:
                principal = await _principal(services, _token(request))
                scope["principal"] = principal
                if (most := services.quotas(principal).requests_per_minute) is not None:
                    await services.limiter.count(principal.project_id, most)
            except (Unauthenticated, TooMany) as error:
                await problems.answer(request, error)(scope, receive, send)
                return
            except (OperationalError, InterfaceError, TimeoutError):
                pass  # the route's own look-up fails too, where errors are rendered
        await self._app(scope, receive, send)


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
        detail = f"page_token {page_token[:40]!r} is none that this list has given"
        raise NotOurs([Fault("?page_token", "invalid_page_token", detail)], "invalid_page_token") from error


Paging = Annotated[Page, Depends(_page)]
