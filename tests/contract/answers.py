"""Compare a JSON answer of the API with the schema that the OpenAPI document has for it."""

from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

Document = dict[str, Any]


def template_of(document: Document, path: str) -> str:
    """The path of the document that a request's path matches; literal segments win over parameters."""
    wanted = urlsplit(path).path.split("/")
    found = [
        template
        for template in document["paths"]
        if len(segments := template.split("/")) == len(wanted)
        and all(own in (other, f"{{{own[1:-1]}}}") for own, other in zip(segments, wanted, strict=True))
    ]
    return min(found, key=lambda template: template.count("{"))


def misfits(document: Document, method: str, path: str, body: Any, status: str = "200") -> list[str]:
    """Where the body of an answer differs from its schema, and its fields that the schema lacks."""
    answer = document["paths"][template_of(document, path)][method]["responses"][status]
    schema = answer["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    wrong = [f"{path} {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(body)]
    return wrong + [f"{path} {place}: is not in the document" for place in _unknown(document, schema, body, "$")]


def _unknown(document: Document, schema: Document, body: Any, place: str) -> list[str]:
    """Fields at any depth that no schema names; unions are only followed where their discriminator tells the member."""
    if "$ref" in schema:
        return _unknown(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], body, place)
    if "discriminator" in schema and isinstance(body, dict):
        member = schema["discriminator"]["mapping"][body[schema["discriminator"]["propertyName"]]]
        return _unknown(document, {"$ref": member}, body, place)
    if "anyOf" in schema:
        members = [member for member in schema["anyOf"] if member.get("type") != "null"]
        return _unknown(document, members[0], body, place) if len(members) == 1 and body is not None else []
    if isinstance(body, list) and "items" in schema:
        return [
            line
            for number, each in enumerate(body)
            for line in _unknown(document, schema["items"], each, f"{place}[{number}]")
        ]
    if not isinstance(body, dict) or "oneOf" in schema:
        return []
    fields, others = schema.get("properties", {}), schema.get("additionalProperties")
    found = []
    for name, value in body.items():
        if name in fields:
            found += _unknown(document, fields[name], value, f"{place}.{name}")
        elif isinstance(others, dict):
            found += _unknown(document, others, value, f"{place}.{name}")
        elif others is not True:
            found.append(f"{place}.{name}")
    return found
