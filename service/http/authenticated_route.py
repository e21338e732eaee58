"""FastAPI routes that need an API key."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.http import authentication, query_parameters
from service.shared import json_documents


class AuthenticatedRoute(APIRoute):
    """Authenticates a request and checks its query and its document before FastAPI reads the body.

    It overrides what FastAPI documents for that: `get_route_handler`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the checks."""
        handle = super().get_route_handler()
        operation = authentication.operation(self.operation_id or self.name, self.path, self.methods or (), self.tags)
        known = query_parameters.parameters(self.dependant)
        takes_document = self.body_field is not None

        async def authenticated(request: Request) -> Response:
            await authentication.authenticate(request.scope, operation)
            if request.scope["query_string"]:
                query_parameters.check(request.scope["query_string"], known)
            if takes_document:  # before FastAPI parses and validates it in the event loop
                json_documents.check(await request.body())
            return await handle(request)

        return authenticated
