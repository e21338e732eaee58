"""What every request passes on its way in and out: its id, bounds on its body, safe headers, and its measurement."""

import time
from collections.abc import Callable

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import access_log, problems, request_head, request_metrics
from service.shared import telemetry

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
        self,
        app: ASGIApp,
        max_bytes: int,
        max_bytes_of: Callable[[str], int | None],
        takes_encoded: Callable[[str], bool],
    ) -> None:
        """max_bytes: of most bodies. max_bytes_of: asked about the path of a larger one; None is no limit."""
        self._app = app
        self._takes_encoded = takes_encoded
        self._max_bytes = max_bytes
        self._max_bytes_of = max_bytes_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status, received = time.perf_counter(), 500, 0
        reading = scope["method"] in READING
        request_id, encoding, fault = request_head.read(scope)
        scope["request_id"] = request_id
        telemetry.serving.set(request_id)

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                max_bytes = self._max_bytes_of(scope["path"])
                if max_bytes is not None and received > max_bytes:
                    # FastAPI passes this one through where it would turn any other error into a 400
                    raise HTTPException(413, f"the body has more than {max_bytes} bytes")
            return message

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                safe = SAFE if reading else SAFE_ANSWER
                if scope["path"] in PAGES:
                    safe = SAFE_PAGE
                given = message["headers"]
                own = {name.lower() for name, _ in given}  # what a route says itself is not said twice
                stamps = ((request_head.REQUEST_ID, request_id.encode()), *safe)
                message["headers"] = [*given, *(stamp for stamp in stamps if stamp[0] not in own)]
            await send(message)

        try:
            if fault is None and encoding is not None and not self._takes_encoded(scope["path"]):
                fault = request_head.unsupported_encoding(encoding)
            if fault is None:
                await self._app(scope, counted, stamped)
            else:
                await problems.answer(Request(scope), fault)(scope, counted, stamped)
        finally:
            seconds = time.perf_counter() - started_at
            request_metrics.observe(scope.get("route"), status, seconds)
            access_log.record(scope, status, seconds)
