"""The header fields of responses, as the OpenAPI document lists them: each described once, then referred to.

Those of every response, such as `X-Request-Id` and `Cache-Control`, are not repeated at each.
"""

from typing import Any

from service.http.rate_limit import NAME, WINDOW_SECONDS


def _text(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


FIELDS: dict[str, dict[str, Any]] = {
    "Accept-Ranges": _text("`bytes`: parts of the file can be requested by `Range`.", "bytes"),
    "Content-Disposition": _text("The name under which to store the file.", 'attachment; filename="digits-3.tar"'),
    "Content-Encoding": _text("The compression of the answer, if the request asks for one.", "gzip"),
    "Content-Range": _text("The part of the file and its size; with status 416 the size alone.", "bytes 0-1023/13824"),
    "ETag": _text("Changes with the content: for `If-Match` of an alias, for `If-Range` of a file.", '"3"'),
    "Idempotent-Replayed": _text(
        "`true` if the answer is that of an earlier request with the same `Idempotency-Key`.", "true"
    ),
    "Inference-Header-Content-Length": {
        "description": "The bytes of the JSON before the binary tensors, if there are some.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 213,
    },
    "Location": {
        **_text("The path of the new resource.", "/v1/runs/run_01KA3M5Q7R9T2V4X6Z8B0D1F3H"),
        "required": True,
    },
    "Preference-Applied": _text("The wait that applies, if the request asks for one.", "wait=30"),
    "RateLimit": _text(
        "About how many requests are left: `r` for the next `t` seconds. It is an estimate, because "
        "several processes count, each some requests at a time. Only if the project has a limit.",
        f'"{NAME}";r=412;t={WINDOW_SECONDS}',
    ),
    "RateLimit-Policy": _text(
        "How many requests the project may send: `q` in any `w` seconds. All responses to a "
        "project with a limit have it, also errors, unless the request was refused before its key was read.",
        f'"{NAME}";q=600;w={WINDOW_SECONDS}',
    ),
    "Retry-After": {
        "description": "Seconds until a repetition may succeed.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 7,
    },
    "Server-Timing": _text(
        "Milliseconds that the request waited, that its batch took, and that the model computed.",
        'queue;dur=0.412, batch;dur=3.120;desc="8 rows", compute;dur=2.871',
    ),
    "WWW-Authenticate": _text(
        "How to authenticate, or the scope that the key lacks.", 'Bearer, Basic realm="Sensorium"'
    ),
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
