"""Render every error as RFC 9457 problem+json."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from service.http import head_requests, validation
from service.http.authentication import OPERATION, Operation
from service.http.error_codes import PROBLEMS, type_of
from service.shared.database_errors import is_outage
from service.shared.errors import (
    BadInput,
    Damaged,
    Fault,
    SensoriumError,
    StorageFull,
    Unavailable,
)
from service.shared.full_disk import is_disk_full
from service.shared.outage_log import DATABASE, REQUESTS
from service.shared.storage import CorruptArtifact

log = structlog.get_logger(__name__)

MAX_FAULTS = 100
MAX_SHOWN_PATH = 200
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

EXAMPLE: JsonDict = {
    "type": type_of("invalid_input"),
    "title": "Invalid input",
    "status": 422,
    "detail": "training.epochs is 0, expected at least 1",
    "code": "invalid_input",
    "request_id": "req_0188c2f0a5d1",
    "errors": [
        {
            "pointer": "/training/epochs",
            "code": "out_of_range",
            "detail": "training.epochs is 0, expected at least 1",
        }
    ],
}


class Problem(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    type: str = Field(description="The path under which the service describes the code: `/errors/{code}`.")
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The status of the response.")
    detail: str = Field(description="What happened and what to do, for people.")
    code: str = Field(description="Kind of problem: stable, for programs.")
    request_id: str = Field(description="Id of the request in the log of the server.")
    errors: list[Fault] = Field(default=[], description="All faults of the input; empty for other problems.")


def install(app: FastAPI) -> None:
    """Register a handler for every error that a route can raise."""
    app.add_exception_handler(SensoriumError, _on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    for database_error in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(database_error, _on_database_error)
    app.add_exception_handler(CorruptArtifact, _on_corrupt)
    app.add_exception_handler(OSError, _on_system_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unknown)


def _render(request: Request, problem: SensoriumError, status: int) -> Response:
    known = PROBLEMS.get(problem.code)
    body = Problem(
        type=type_of(problem.code) if known is not None else "about:blank",
        title=known.title if known is not None else HTTPStatus(status).phrase,
        status=status,
        detail=problem.detail,
        code=problem.code,
        request_id=request.scope.get("request_id", ""),
        errors=list(problem.faults),
    )
    # clients of the Open Inference Protocol read only this member
    extra = {"error": problem.detail} if request.scope["path"].startswith("/v2") else {}
    content = orjson.dumps(body.model_dump() | extra)
    return Response(content, status, headers=problem.headers, media_type="application/problem+json")


def answer(request: Request, error: SensoriumError) -> Response:
    """The response for an error."""
    return _render(request, error, error.status)


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, SensoriumError)  # noqa: S101 it is registered for this class only
    return answer(request, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return await _on_known(request, BadInput(_faults(request, error.errors()[:MAX_FAULTS], error.body)))


def _faults(request: Request, errors: Sequence[Mapping[str, Any]], body: Any) -> list[Fault]:
    """The validation errors of FastAPI as faults."""
    operation: Operation | None = request.scope.get(OPERATION)
    query, schema = (operation.query, operation.body) if operation is not None else (None, None)
    in_body = [{**each, "loc": each["loc"][1:]} for each in errors if each["loc"][0] == "body"]
    others = [validation.in_parameter(each, query) for each in errors if each["loc"][0] != "body"]
    return others + validation.in_body(in_body, body, schema)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    phrase = HTTPStatus(error.status_code).phrase
    path, detail = request.scope["path"][:MAX_SHOWN_PATH], str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is no path {path!r}"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        method = head_requests.method_of(request.scope)[:20]
        detail = f"the method is {method}, expected one of {', '.join(_methods(request))} for {path!r}"
    problem = SensoriumError(phrase.lower().replace(" ", "_"), detail)
    response = _render(request, problem, error.status_code)
    response.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette lists only the methods of the first route
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """The methods that a path has."""
    scopes = [head_requests.with_method(request.scope, method) for method in METHODS]
    routes = request.app.routes
    served = [scope for scope in scopes if any(route.matches(scope)[0] == Match.FULL for route in routes)]
    return [head_requests.method_of(scope) for scope in served]


async def _on_unknown(request: Request, error: Exception) -> Response:
    log.error("request_failed", path=request.url.path, exc_info=error)
    problem = SensoriumError("internal_error", "the service failed; its log has the reason under this request id")
    response = _render(request, problem, 500)
    # Starlette sends this response outside of RequestMiddleware, which sets the header of the others.
    response.headers["x-request-id"] = request.scope.get("request_id", "")
    return response


async def _on_system_error(request: Request, error: Exception) -> Response:
    if not is_disk_full(error):
        raise error  # `_on_unknown` handles it
    log.warning("storage_filled", path=request.url.path, error=str(error))
    return answer(request, StorageFull("storage"))


async def _on_database_error(request: Request, error: Exception) -> Response:
    if is_disk_full(error):
        log.warning("storage_filled", path=request.url.path, error=str(error))
        request.app.state.services.storage.space.refused("database")
        return answer(request, StorageFull("database"))
    if not is_outage(error):
        raise error  # `_on_unknown` handles it
    DATABASE.failed(REQUESTS, error, path=request.url.path)
    return await _on_known(request, Unavailable("database_unavailable", "the database does not answer; try again"))


async def _on_corrupt(request: Request, error: Exception) -> Response:
    log.error("artifact_read_failed", path=request.url.path, error=str(error))
    return answer(request, Damaged("artifact_corrupt", str(error)))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    log.info("client_disconnected", path=request.url.path)
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # the client is gone
