"""Authenticate a request before its body is read: API key, rate limit, scope, free disk space, audit.

FastAPI reads and parses the body before it runs a dependency, and each dependency costs more than all of this.
FastAPI's routes authenticate by the class `AuthenticatedRoute`, Starlette's by the middleware `Authentication`.
"""

import base64
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_type_hints

import structlog
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import audit, scopes
from service.access.operations import Principal
from service.http import json_types, query_parameters, rate_limit
from service.http.dependencies import PRINCIPAL, Services
from service.http.query_parameters import QueryModel
from service.http.revocation import REVOCATION, Revocation
from service.shared import json_documents
from service.shared.errors import Unauthenticated, UnsupportedMediaType

log = structlog.get_logger(__name__)

OPERATION = "operation"
"""Where the scope of an authenticated request has its Operation."""


@dataclass(frozen=True)
class Operation:
    """The action of a route: authentication, audit, metrics and the access log use its name."""

    id: str
    path: str
    """The route's template, such as `/v1/runs/{run_id}`."""
    needed: Mapping[str, scopes.Scope | None]
    """The scope of an API key that each HTTP method needs; None: any valid key may call it."""
    query: type[QueryModel] | None = None
    body: Any = None
    """The type of a JSON body that FastAPI parses."""

    @classmethod
    def of(
        cls, id: str, path: str, methods: Collection[str], tags: Iterable[str | Enum], endpoint: Callable[..., Any]
    ) -> "Operation":
        """The operation of a route. Tags and method determine its scope; its body is the parameter `body`."""
        tags = list(tags)
        needed = {method: scopes.needed(method, tags) for method in methods}
        return cls(id, path, needed, query_parameters.model_of(endpoint), get_type_hints(endpoint).get("body"))


class AuthenticatedRoute(APIRoute):
    """Authenticates a request and checks its JSON document before FastAPI parses it.

    It overrides what FastAPI documents for that: `get_route_handler`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the checks."""
        handle = super().get_route_handler()
        name, methods = self.operation_id or self.name, self.methods or ()
        operation = Operation.of(name, self.path, methods, self.tags, self.endpoint)
        adapter: TypeAdapter[Any] = TypeAdapter(operation.body)

        async def authenticated(request: Request) -> Response:
            await authenticate(request.scope, operation)
            if operation.body is not None and (body := await request.body()):
                _check_document(request.headers.get("content-type", ""), body)
                json_types.check(adapter, body)
            return await handle(request)

        return authenticated


class Authentication:
    """ASGI middleware of a Starlette route: `Route(..., middleware=[Middleware(Authentication, operation=…)])`."""

    def __init__(self, app: ASGIApp, operation: Operation) -> None:
        self._app = app
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate the request, then pass it on."""
        await authenticate(scope, self._operation)
        await self._app(scope, receive, send)


async def authenticate(scope: Scope, operation: Operation) -> None:
    """Store the caller in the ASGI scope. Raises Unauthenticated, TooMany, Forbidden, BadInput or StorageFull."""
    scope[OPERATION] = operation
    services: Services = scope["app"].state.services
    token = _token(scope)
    if not token:
        detail = "send an API key: `Authorization: Bearer sns_…`, or as the password of Basic"
        raise Unauthenticated("missing_api_key", detail)
    principal = services.keys.cached(token) or await services.keys.principal(token)
    scope[PRINCIPAL] = principal
    if (per_minute := principal.quotas.requests_per_minute) is not None:
        await rate_limit.count(scope, services.limiter, principal.project_id, per_minute)
    needed = operation.needed[scope["method"]]
    changing = needed in scopes.CHANGING and scope["method"] not in scopes.READING
    if changing and needed not in principal.scopes:
        log.warning("change_refused", key_id=principal.key_id, action=operation.id, path=scope["path"])
    scopes.require(needed, principal.scopes)
    if scope["query_string"]:
        query_parameters.check(scope["query_string"], operation.query)
    if changing:
        if services.database.reserve is not None and not frees_space(scope["method"], operation.path):
            services.database.reserve.check()
        audit.acting.set(_action(scope, principal, operation))
    scope[REVOCATION] = Revocation(services.keys, token, needed)


def frees_space(method: str, path: str) -> bool:
    """Whether a call ends or deletes something, and so may use the reserved disk space."""
    return method == "DELETE" or path.endswith(("/cancel", "/pause"))


def _action(scope: Scope, principal: Principal, operation: Operation) -> audit.Action:
    return audit.Action(
        project_id=principal.project_id,
        key_id=principal.key_id,
        action=operation.id,
        resource=scope["path"],
        request_id=scope.get("request_id"),
        client=scope["client"][0] if scope.get("client") else None,
    )


def _token(scope: Scope) -> bytes | None:
    """The API key of a request: a bearer token, or the password of Basic for clients that know only that."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            header: bytes = value
            kind, _, rest = header.partition(b" ")
            if kind.lower() == b"bearer":
                return rest.strip()
            if kind.lower() == b"basic":
                return _password(rest)
    return None


def _password(credentials: bytes) -> bytes | None:
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return None


def _check_document(content_type: str, body: bytes) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type.startswith("application/") or not media_type.endswith(("/json", "+json")):
        detail = f"content type {content_type or 'none'!r}, expected application/json"
        raise UnsupportedMediaType("unsupported_media_type", detail)
    json_documents.check(body)
