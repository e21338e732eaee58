"""The header fields of responses, as the OpenAPI document lists them: each described once, then referred to.

Those of every response, such as `X-Request-Id` and `Cache-Control`, are not repeated at each.
"""

from typing import Any

from service.http.rate_limit import NAME, WINDOW_SECONDS

FIELDS: dict[str, dict[str, Any]] = {
    "Accept-Ranges": {
        "description": "`bytes`: parts of the file can be requested by `Range`.",
        "schema": {"type": "string"},
        "example": "bytes",
    },
    "Content-Disposition": {
        "description": "The name under which to store the file.",
        "schema": {"type": "string"},
        "example": 'attachment; filename="digits-3.tar"',
    },
    "Content-Encoding": {
        "description": "The compression of the answer, if the request asks for one.",
        "schema": {"type": "string"},
        "example": "gzip",
    },
    "Content-Range": {
        "description": "The part of the file and its size; with status 416 the size alone.",
        "schema": {"type": "string"},
        "example": "bytes 0-1023/13312",
    },
    "ETag": {
        "description": "Changes with the content: for `If-Match` of an alias, for `If-Range` of a file.",
        "schema": {"type": "string"},
        "example": '"3"',
    },
    "Idempotent-Replayed": {
        "description": "`true` if the answer is that of an earlier request with the same `Idempotency-Key`.",
        "schema": {"type": "string"},
        "example": "true",
    },
    "Inference-Header-Content-Length": {
        "description": "The bytes of the JSON before the binary tensors, if there are some.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 213,
    },
    "Location": {
        "description": "The path of the new resource.",
        "required": True,
        "schema": {"type": "string"},
        "example": "/v1/runs/run_01KA3M5Q7R9T2V4X6Z8B0D1F3H",
    },
    "Preference-Applied": {
        "description": "The wait that applies, if the request asks for one.",
        "schema": {"type": "string"},
        "example": "wait=30",
    },
    "RateLimit": {
        "description": "About how many requests are left: `r` for the next `t` seconds. It is an estimate, because "
        "several processes count, each some requests at a time. Only if the project has a limit.",
        "schema": {"type": "string"},
        "example": f'"{NAME}";r=412;t={WINDOW_SECONDS}',
    },
    "RateLimit-Policy": {
        "description": "How many requests the project may send: `q` in any `w` seconds. All responses to a "
        "project with a limit have it, also errors, unless the request was refused before its key was read.",
        "schema": {"type": "string"},
        "example": f'"{NAME}";q=600;w={WINDOW_SECONDS}',
    },
    "Retry-After": {
        "description": "Seconds until a repetition may succeed.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 7,
    },
    "Server-Timing": {
        "description": "Milliseconds that the request waited, that its batch took, and that the model computed.",
        "schema": {"type": "string"},
        "example": 'queue;dur=0.412, batch;dur=3.120;desc="8 rows", compute;dur=2.871',
    },
    "WWW-Authenticate": {
        "description": "How to authenticate, or the scope that the key lacks.",
        "schema": {"type": "string"},
        "example": 'Bearer, Basic realm="Sensorium"',
    },
}
OF_STATUS = {
    "201": ("Location",),
    "401": ("WWW-Authenticate",),
    "403": ("WWW-Authenticate",),
    "416": ("Content-Range",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}
"""Every response with this status has them."""
OF_PARAMETERS = {"Idempotency-Key": "Idempotent-Replayed", "wait": "Preference-Applied"}
"""Successful responses of operations with the parameter have the field."""
LIMIT = ("RateLimit", "RateLimit-Policy")
"""Responses to requests that are counted have them."""


def fields(*names: str) -> dict[str, Any]:
    """The `headers` of a response of a route that sets these fields."""
    assert FIELDS.keys() >= {*names}  # noqa: S101 each is described
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def describe(document: dict[str, Any]) -> None:
    """Add the fields of successful responses, and those that follow from the status, to a document with all errors."""
    document["components"]["headers"] = FIELDS
    for operations in document["paths"].values():
        for operation in operations.values():
            parameters = {parameter["name"] for parameter in operation.get("parameters", ())}
            for status, response in operation["responses"].items():
                names = [*OF_STATUS.get(status, ())]
                if status < "300":
                    names += [name for parameter, name in OF_PARAMETERS.items() if parameter in parameters]
                    names += LIMIT if operation.get("security") else ()
                if names:
                    response.setdefault("headers", {}).update(fields(*names)["headers"])
