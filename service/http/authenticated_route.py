"""FastAPI routes that need an API key."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.http.authentication import Operation, authenticate
from service.shared import json_documents
from service.shared.errors import UnsupportedMediaType


class AuthenticatedRoute(APIRoute):
    """Authenticates a request and checks its JSON document before FastAPI parses it.

    It overrides what FastAPI documents for that: `get_route_handler`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the checks."""
        handle = super().get_route_handler()
        name, methods = self.operation_id or self.name, self.methods or ()
        operation = Operation.of(name, self.path, methods, self.tags, self.endpoint)

        async def authenticated(request: Request) -> Response:
            await authenticate(request.scope, operation)
            if operation.body is not None and (body := await request.body()):
                _check_document(request.headers.get("content-type", ""), body)
            return await handle(request)

        return authenticated


def _check_document(content_type: str, body: bytes) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type.startswith("application/") or not media_type.endswith(("/json", "+json")):
        detail = f"content type {content_type or 'none'!r}, expected application/json"
        raise UnsupportedMediaType("unsupported_media_type", detail)
    json_documents.check(body)
