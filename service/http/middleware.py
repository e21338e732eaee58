"""The one middleware: request id, limit of the body, revoked keys, headers of every response, metrics, access log."""

import time
from collections.abc import Callable

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import access_log, head_requests, problems, request_head, request_metrics
from service.http.authentication import OPERATION, Operation
from service.http.dependencies import PRINCIPAL
from service.http.rate_limit import RATE_LIMIT
from service.http.revocation import REVOCATION, AccessEnded
from service.shared import telemetry
from service.shared.errors import TooLarge

log = structlog.get_logger(__name__)

# A response is data: a browser must not guess its type, run it or frame it. Caches do not store responses to POST, so
# only the other responses need `no-store`.
SAFE_ANSWER = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
SAFE = [*SAFE_ANSWER, (b"cache-control", b"no-store")]
SAFE_PAGE = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
PAGES = ("/docs", "/redoc")


class RequestMiddleware:
    """One class does all of this, because each additional ASGI middleware slows down every request."""

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        max_bytes_of: Callable[[str], int | None],
        takes_encoded: Callable[[str], bool],
    ) -> None:
        """max_bytes: limit of most bodies. max_bytes_of: the limit of a path if the body is larger; None is no limit.

        takes_encoded: whether a path reads compressed bodies.
        """
        self._app = app
        self._takes_encoded = takes_encoded
        self._max_bytes = max_bytes
        self._max_bytes_of = max_bytes_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope, send = head_requests.as_get(scope), head_requests.without_body(send)
        started_at, status, received, has_begun = time.perf_counter(), 500, 0, False
        reading = scope["method"] == "GET"
        request_id, encoding, fault = request_head.read(scope)
        scope["request_id"] = request_id
        telemetry.serving.set(request_id)

        async def checked_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                max_bytes = self._max_bytes_of(scope["path"])
                if max_bytes is not None and received > max_bytes:
                    raise TooLarge("body_too_large", f"the body has more than {max_bytes} bytes")
            if (revocation := scope.get(REVOCATION)) is not None:
                await revocation.on_receive(message)
            return message

        async def checked_send(message: Message) -> None:
            nonlocal status, has_begun
            if (revocation := scope.get(REVOCATION)) is not None:
                await revocation.on_send(message)
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                safe = SAFE if reading else SAFE_ANSWER
                if scope["path"] in PAGES:
                    safe = SAFE_PAGE
                route_headers = message["headers"]
                route_names = {name.lower() for name, _ in route_headers}  # a header that the route sets stays as it is
                added = ((request_head.REQUEST_ID, request_id.encode()), *safe, *scope.get(RATE_LIMIT, ()))
                message["headers"] = [*route_headers, *(header for header in added if header[0] not in route_names)]
            await send(message)

        try:
            if fault is None and encoding is not None and not self._takes_encoded(scope["path"]):
                fault = request_head.unsupported_encoding(encoding)
            if fault is None:
                await self._app(scope, checked_receive, checked_send)
            else:
                await problems.answer(Request(scope), fault)(scope, checked_receive, checked_send)
        except AccessEnded as error:
            log.info("access_ended", key_id=scope[PRINCIPAL].key_id, path=scope["path"])
            del scope[REVOCATION]
            if not has_begun:
                await problems.answer(Request(scope), error.why)(scope, receive, checked_send)
            # otherwise the connection is closed within the answer, so that the client sees that it is not whole
        finally:
            seconds = time.perf_counter() - started_at
            operation, route = _route(scope)
            request_metrics.observe(operation, status, seconds)
            access_log.record(scope, route, status, seconds)


def _route(scope: Scope) -> tuple[str | None, str | None]:
    """The id and the path template of the operation that served a request; None if no operation matched."""
    operation: Operation | None = scope.get(OPERATION)
    if operation is not None:
        return operation.id, operation.path
    route = scope.get("route")  # of a route without authentication
    return getattr(route, "operation_id", None), getattr(route, "path", None)
