"""Completes the descriptions of an OpenAPI document: FastAPI leaves those out that follow from the schemas."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from service.http.document_texts import PATH_PARAMETERS, TAGS, VERSION_OR_ALIAS

_REFERENCE = "#/components/schemas/"
_UNDESCRIBED = ("Successful Response", "Created")
"""The descriptions that FastAPI gives to responses which have none."""


def complete(document: dict[str, Any]) -> None:
    """Describe path parameters, request bodies and successful responses, and list the tags."""
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["description"] = _of_parameter(path, parameter)
            body = operation.get("requestBody")
            if body is not None and "description" not in body:
                body["description"] = _of_content(body["content"], schemas)
            for status, response in operation["responses"].items():
                if int(status) < HTTPStatus.MULTIPLE_CHOICES and response["description"] in _UNDESCRIBED:
                    content = response.get("content")
                    response["description"] = _of_content(content, schemas) if content else "Done. There is no body."
    document["tags"] = [{"name": name, "description": description} for name, description in TAGS.items()]


def restore_examples(document: dict[str, Any], routers: Iterable[APIRouter]) -> None:
    """Restore the nulls in the examples of answers: FastAPI leaves `null` out of the document."""
    schemas = document["components"]["schemas"]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    for model in {route.response_model for route in routes}:
        extra = getattr(model, "model_config", {}).get("json_schema_extra", {})
        if "examples" in extra:
            schemas[model.__name__]["examples"] = extra["examples"]


def _of_parameter(path: str, parameter: Mapping[str, Any]) -> str:
    """The parameter's own description, or that of its place in the path. Raises KeyError for an unknown place."""
    if "description" in parameter:
        return str(parameter["description"])
    name = f"{{{parameter['name']}}}"
    segments = path.split("/")
    place = f"{segments[segments.index(name) - 1]}/{name}"
    if path.startswith("/v2") and place == "versions/{version}":
        return VERSION_OR_ALIAS
    return PATH_PARAMETERS[place]


def _of_content(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The description of the first schema of a body."""
    schema = next(iter(content.values()))["schema"]
    named = schemas[schema["$ref"].removeprefix(_REFERENCE)] if "$ref" in schema else schema
    return str(named.get("description", ""))
