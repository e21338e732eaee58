"""The OpenAPI document: FastAPI's, with the errors and header fields of every operation and the security schemes."""

from typing import Any

import orjson

from service.access import scopes
from service.http import descriptions, error_responses, header_fields
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
    document["components"]["examples"] = error_responses.examples()
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            is_keyed = path.startswith(KEYED) and not path.startswith("/v2/health")
            if is_keyed:
                operation["security"] = [{scheme: []} for scheme in SECURITY_SCHEMES]
            for parameter in operation.get("parameters", []):
                _not_null(parameter)
            error_responses.complete(operation, is_keyed, is_keyed and _writes(method.upper(), operation))
    for schema in schemas.values():
        for described in schema.get("properties", {}).values():
            _say_default(described)
            for member in (described, *described.get("anyOf", [])):
                _require_tag(member.get("discriminator"), schemas)
                if "patternProperties" in member:  # Pydantic refuses keys that do not match, and does not say so
                    member["additionalProperties"] = False
    descriptions.complete(document)
    header_fields.describe(document)
    return document


def _writes(method: str, operation: dict[str, Any]) -> bool:
    """Whether an operation changes resources. A deletion is served for longer on a full disk, and then refused too."""
    return method not in scopes.READING and scopes.needed(method, operation.get("tags", ())) in scopes.CHANGING


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
