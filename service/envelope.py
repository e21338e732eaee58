"""What every request passes on its way in and out: its id, bounds on its body, safe headers, and its measurement."""

import random
import time
from collections.abc import Callable

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics, problems
from service.shared import telemetry
from service.shared.errors import UnsupportedMediaType

REQUEST_ID = b"x-request-id"
MOST_ID_CHARACTERS = 100

# An answer is data: a browser must not guess what it is, run what is in it or frame it. What answers a POST is not kept
# by anybody, so that only the others have to say that they must not be.
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
READING = ("GET", "HEAD")
PAGES = ("/docs", "/redoc", "/docs/oauth2-redirect")


class Envelope:
    """One layer for all of it: each more would cost every request its own share."""

    def __init__(
        self, app: ASGIApp, most_bytes: int, unbounded_paths: frozenset[str], takes_encoded: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._takes_encoded = takes_encoded
        self._most_bytes = most_bytes
        self._unbounded_paths = unbounded_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status, received = time.perf_counter(), 500, 0
        reading = scope["method"] in READING
        request_id, encoding = _id_and_encoding(scope)
        scope["request_id"] = request_id
        telemetry.serving.set(request_id)
        most = self._most_bytes if scope["path"] not in self._unbounded_paths else None

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if most is not None and received > most:
                # FastAPI passes this one through where it would turn any other error into a 400
                raise HTTPException(413, f"the body has more than {most} bytes")
            return message

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                safe = SAFE if reading else SAFE_ANSWER
                if scope["path"] in PAGES:
                    safe = SAFE_PAGE
                message["headers"] = [*message["headers"], (REQUEST_ID, request_id.encode()), *safe]
            await send(message)

        try:
            if encoding is None or self._takes_encoded(scope["path"]):
                await self._app(scope, counted, stamped)
            else:
                detail = f"content encoding {encoding[:40]!r}, expected a body that is not encoded"
                unread = UnsupportedMediaType("unsupported_content_encoding", detail)
                await problems.answer(Request(scope), unread)(scope, counted, stamped)
        finally:
            metrics.observe(scope.get("route"), status, time.perf_counter() - started_at)


def _id_and_encoding(scope: Scope) -> tuple[str, str | None]:
    """The request's id, its own or a new one, and what its body is encoded in, if at all."""
    request_id, encoding = None, None
    for name, value in scope["headers"]:
        if name == REQUEST_ID and 0 < len(value) <= MOST_ID_CHARACTERS and value.isascii():
            given = value.decode("ascii")
            request_id = given if given.isprintable() else None
        elif name == b"content-encoding" and value.lower() != b"identity":
            encoding = value.decode("latin-1")
    return request_id or f"req_{time.time_ns():016x}{random.getrandbits(48):012x}", encoding
