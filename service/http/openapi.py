"""The OpenAPI document: FastAPI's, with the errors of every operation and the security schemes."""

from http import HTTPStatus
from typing import Any

import orjson

from service.http import descriptions
from service.http.problems import Problem

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer sns_…`"},
    "basic": {"type": "http", "scheme": "basic", "description": "An API key as the password; any user name."},
}
KEYED = ("/v1", "/v2")


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """Add the error responses and the security schemes to an OpenAPI document."""
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
            for parameter in operation.get("parameters", []):
                _not_null(parameter)
            own = [int(status) for status in operation["responses"] if int(status) >= HTTPStatus.BAD_REQUEST]
            for status in _failures(path, method, operation) + own:
                operation["responses"][str(status)] = {"description": HTTPStatus(status).phrase, "content": body}
    for schema in schemas.values():
        for described in schema.get("properties", {}).values():
            _say_default(described)
            for member in (described, *described.get("anyOf", [])):
                _require_tag(member.get("discriminator"), schemas)
    descriptions.complete(document)
    return document


def _failures(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    """The error statuses of an operation besides those that its route declares."""
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


def _not_null(parameter: dict[str, Any]) -> None:
    """Remove `null` from the values of a parameter: a URL or a header cannot have it; the parameter is left out."""
    members = [member for member in parameter["schema"].get("anyOf", []) if member.get("type") != "null"]
    if len(members) == 1:
        del parameter["schema"]["anyOf"]
        parameter["schema"] |= members[0]


def _say_default(described: dict[str, Any]) -> None:
    """Move a default that is an object into the description: client generators refuse such a schema."""
    if isinstance(described.get("default"), dict):
        default = orjson.dumps(described.pop("default")).decode()
        described["description"] = f"{described.get('description', '')} Default: `{default}`.".strip()


def _require_tag(discriminator: dict[str, Any] | None, schemas: dict[str, Any]) -> None:
    """Require the discriminator of a union: Pydantic declares a default for it, but demands it in a request."""
    if discriminator is None:
        return
    for reference in discriminator.get("mapping", {}).values():
        required = schemas[reference.rpartition("/")[2]].setdefault("required", [])
        if discriminator["propertyName"] not in required:
            required.append(discriminator["propertyName"])
