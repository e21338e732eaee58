"""Renders every error as RFC 9457 problem+json, and says in the OpenAPI document which there are."""

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

from service.http import validation
from service.http.authentication import OPERATION, Operation
from service.shared import json_syntax
from service.shared.database_errors import is_outage
from service.shared.errors import (
    BadInput,
    Damaged,
    Fault,
    SensoriumError,
    StorageFull,
    Unavailable,
    UnsupportedMediaType,
)
from service.shared.full_disk import is_disk_full
from service.shared.outage_log import DATABASE, REQUESTS
from service.shared.storage import CorruptArtifact

log = structlog.get_logger(__name__)

MOST_FAULTS = 100
MAX_SHOWN_PATH = 200
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer sns_…`"},
    "basic": {"type": "http", "scheme": "basic", "description": "An API key as the password; any user name."},
}
KEYED = ("/v1", "/v2")
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

EXAMPLE: JsonDict = {
    "type": "about:blank",
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

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable, for programs.")
    request_id: str
    errors: list[Fault] = []


def install(app: FastAPI) -> None:
    """Handle all errors of an application in one way."""
    app.add_exception_handler(SensoriumError, _on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    for away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(away, _on_database_away)
    app.add_exception_handler(CorruptArtifact, _on_corrupt)
    app.add_exception_handler(OSError, _on_system_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unknown)


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """Say in an OpenAPI document what every operation answers when it fails."""
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schemas["Problem"].pop("$defs")
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    body = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith(KEYED) and not path.startswith("/v2/health"):
                operation["security"] = [{scheme: []} for scheme in SECURITY_SCHEMES]
            own = [int(status) for status in operation["responses"] if int(status) >= HTTPStatus.BAD_REQUEST]
            for status in _failures(path, method, operation) + own:
                operation["responses"][str(status)] = {"description": HTTPStatus(status).phrase, "content": body}
    for schema in schemas.values():
        for described in schema.get("properties", {}).values():
            _say_default(described)
            for one in (described, *described.get("anyOf", [])):
                _require_tag(one.get("discriminator"), schemas)
    return document


def _failures(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    """What an operation can answer besides what its route declares."""
    statuses = [500, 503]
    if path.startswith(KEYED) and not path.startswith("/v2/health"):
        statuses += [401, 403, 422, 429, 507]
    if "{" in path or method == "post":
        statuses += [404]
    if method in ("post", "delete"):
        statuses += [409]
    if "inference" in operation.get("tags", ()):
        statuses += [504]
    if method in ("post", "patch"):
        statuses += [400, 408, 413, 415]
    if any(parameter["name"] == "page_token" for parameter in operation.get("parameters", [])):
        statuses += [400]
    return statuses


def _say_default(described: dict[str, Any]) -> None:
    """A default that is an object, in words: generators of clients refuse the whole schema for it."""
    if isinstance(described.get("default"), dict):
        default = orjson.dumps(described.pop("default")).decode()
        described["description"] = f"{described.get('description', '')} Default: `{default}`.".strip()


def _require_tag(discriminator: dict[str, Any] | None, schemas: dict[str, Any]) -> None:
    """The field that tells the members of a union apart: Pydantic has a default for it, and wants it all the same."""
    if discriminator is None:
        return
    for reference in discriminator.get("mapping", {}).values():
        required = schemas[reference.rpartition("/")[2]].setdefault("required", [])
        if discriminator["propertyName"] not in required:
            required.append(discriminator["propertyName"])


def _render(request: Request, problem: SensoriumError, status: int, title: str) -> Response:
    body = Problem(
        title=title,
        status=status,
        detail=problem.detail,
        code=problem.code,
        request_id=request.scope.get("request_id", ""),
        errors=list(problem.faults),
    )
    # clients of the Open Inference Protocol read this member alone
    own = {"error": problem.detail} if request.scope["path"].startswith("/v2") else {}
    content = orjson.dumps(body.model_dump() | own)
    return Response(content, status, headers=problem.headers, media_type="application/problem+json")


def answer(request: Request, error: SensoriumError) -> Response:
    """The answer that an error of ours is."""
    return _render(request, error, error.status, error.title)


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, SensoriumError)  # noqa: S101 it is registered for this class only
    return answer(request, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = error.errors()
    if isinstance(error.body, bytes):
        came = request.headers.get("content-type", "none")
        unread = UnsupportedMediaType("unsupported_media_type", f"content type {came!r}, expected application/json")
        return await _on_known(request, unread)
    return await _on_known(request, BadInput(_faults(request, found[:MOST_FAULTS], error.body)))


def _faults(request: Request, found: Sequence[Mapping[str, Any]], body: Any) -> list[Fault]:
    """What FastAPI found wrong with a request."""
    if found[0]["type"] == "json_invalid":
        return [Fault("", "not_json", f"the body is not JSON: {json_syntax.where(body, found[0]['loc'][1])}")]
    operation: Operation | None = request.scope.get(OPERATION)
    query, schema = (operation.query, operation.body) if operation is not None else (None, None)
    in_body = [{**one, "loc": one["loc"][1:]} for one in found if one["loc"][0] == "body"]
    others = [validation.in_parameter(one, query) for one in found if one["loc"][0] != "body"]
    return others + validation.in_body(in_body, body, schema)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    phrase = HTTPStatus(error.status_code).phrase
    path, detail = request.scope["path"][:MAX_SHOWN_PATH], str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is no path {path!r}"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"the method is {request.method[:20]}, expected one of {', '.join(_methods(request))} for {path!r}"
    problem = SensoriumError(phrase.lower().replace(" ", "_"), detail)
    if error.status_code == HTTPStatus.BAD_REQUEST:  # FastAPI's word for bytes that no JSON parser takes
        detail = "the body is bytes that are no UTF-8, is nested too deep, or has a number too long, expected JSON"
        problem = BadInput([Fault("", "not_json", detail)], code="not_json")
    response = _render(request, problem, error.status_code, phrase)
    response.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette names the methods of the first route alone
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """What can be asked of a path."""
    scopes = [{**request.scope, "method": method} for method in METHODS]
    routes = request.app.routes
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] == Match.FULL for route in routes)]


async def _on_unknown(request: Request, error: Exception) -> Response:
    log.error("unhandled_error", path=request.url.path, exc_info=error)
    problem = SensoriumError("internal_error", "the service failed; its log has the reason under this request id")
    response = _render(request, problem, 500, SensoriumError.title)
    # This answer is given outside of the envelope, which stamps the others.
    response.headers["x-request-id"] = request.scope.get("request_id", "")
    return response


async def _on_system_error(request: Request, error: Exception) -> Response:
    if not is_disk_full(error):
        raise error  # to the handler of what is unknown
    log.warning("storage_full", path=request.url.path, error=str(error))
    return answer(request, StorageFull("storage"))


async def _on_database_away(request: Request, error: Exception) -> Response:
    if is_disk_full(error):
        log.warning("storage_full", path=request.url.path, error=str(error))
        request.app.state.services.storage.space.refused("database")
        return answer(request, StorageFull("database"))
    if not is_outage(error):
        raise error  # to the handler of what is unknown
    DATABASE.failed(REQUESTS, error, path=request.url.path)
    return await _on_known(request, Unavailable("database_unavailable", "the database does not answer; try again"))


async def _on_corrupt(request: Request, error: Exception) -> Response:
    log.error("artifact_corrupt", path=request.url.path, error=str(error))
    return answer(request, Damaged("artifact_corrupt", str(error)))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    log.info("client_gone", path=request.url.path)
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it
