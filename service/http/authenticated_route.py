"""FastAPI routes that need an API key."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.http.authentication import Operation, authenticate
from service.shared import json_documents


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
            if operation.body is not None:  # before FastAPI parses and validates it in the event loop
                json_documents.check(await request.body())
            return await handle(request)

        return authenticated
