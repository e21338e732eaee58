"""Routes that need a key: who calls, how often, and whether the key may, before the body is read."""

import base64
from typing import Any

import structlog
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from service.access import audit, scopes
from service.access.operations import Principal
from service.http import query_parameters
from service.http.dependencies import PRINCIPAL, Services
from service.http.revocation import AccessEnded, Watched
from service.shared import json_documents
from service.shared.errors import Unauthenticated

log = structlog.get_logger(__name__)


class KeyedRoute(APIRoute):
    """A route for those who have a key with the scope that it needs.

    FastAPI reads and parses the body before its dependencies run, and each of them costs more than all of this; so it
    stands in front of them. What it has found is the dependency `service.http.dependencies.Caller`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._needed: dict[str, scopes.Scope] = {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says. Raises what is wrong with the caller."""
        services: Services = scope["app"].state.services
        token = _token(scope)
        if not token:
            detail = "send an API key: `Authorization: Bearer sns_…`, or as the password of Basic"
            raise Unauthenticated("missing_api_key", detail)
        principal = services.keys.known(token) or await services.keys.principal(token)
        scope[PRINCIPAL] = principal
        most = principal.quotas.requests_per_minute
        if most is not None and not services.limiter.take(principal.project_id):
            await services.limiter.count(principal.project_id, most)
        needed = self._needed.get(scope["method"]) or self._find_out(scope["method"])
        changing = needed in scopes.CHANGING and scope["method"] not in scopes.READING
        if changing and needed not in principal.scopes:
            log.warning("change_refused", key_id=principal.key_id, action=self.operation_id, path=scope["path"])
        scopes.require(needed, principal.scopes)
        if scope["query_string"] and scope["method"] in (self.methods or ()):
            query_parameters.check(scope["query_string"], self.dependant)
        if changing:
            if services.database.reserve is not None and not self._frees(scope["method"]):
                services.database.reserve.check()
            audit.acting.set(self._action(scope, principal))
        watched = Watched(services.keys, token, needed, receive, send)
        try:
            if scope["method"] in (self.methods or ()):
                read = watched.receive if self.body_field is None else await _checked(scope, watched.receive)
                await self.app(scope, read, watched.send)
            else:
                await super().handle(scope, watched.receive, watched.send)
        except AccessEnded as error:
            log.info("access_ended", key_id=principal.key_id, path=scope["path"])
            if not watched.has_begun:
                raise error.why from error
            # else the connection is closed in the middle of the answer: whoever reads it knows that it is not whole

    def _frees(self, method: str) -> bool:
        """Whether a call ends or deletes something, and so may use the last space there is."""
        return method == "DELETE" or self.path.endswith(("/cancel", "/pause"))

    def _find_out(self, method: str) -> scopes.Scope:
        self._needed[method] = scopes.needed(method, self.tags)
        return self._needed[method]

    def _action(self, scope: Scope, principal: Principal) -> audit.Action:
        return audit.Action(
            project_id=principal.project_id,
            key_id=principal.key_id,
            action=self.operation_id or self.name,
            resource=scope["path"],
            request_id=scope.get("request_id"),
            client=scope["client"][0] if scope.get("client") else None,
        )


async def _checked(scope: Scope, receive: Receive) -> Receive:
    """The body of a document, checked before FastAPI parses and validates it in the event loop. Raises BadInput."""
    body = await Request(scope, receive).body()
    json_documents.check(body)
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _token(scope: Scope) -> bytes | None:
    """The key that a request brings: as a bearer's token, or as the password of a client that knows only those."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            given: bytes = value
            kind, _, rest = given.partition(b" ")
            if kind.lower() == b"bearer":
                return rest.strip()
            if kind.lower() == b"basic":
                return _password(rest)
    return None


def _password(given: bytes) -> bytes | None:
    try:
        return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return None
