"""Bodies of `infer`, for the OpenAPI document only: requests are decoded without Pydantic."""

from typing import Any

_TENSORS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array", "items": {}},
            "parameters": {"type": "object"},
        },
        "required": ["name"],
    },
}
_FIELDS = {"id": {"type": "string"}, "parameters": {"type": "object"}, "outputs": _TENSORS}
_EXAMPLE = {"inputs": [{"name": "audio", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}]}
_BODY = {
    "type": "object",
    "properties": {**_FIELDS, "inputs": _TENSORS},
    "required": ["inputs"],
    "examples": [_EXAMPLE],
}
_ANSWER = {
    "type": "object",
    "properties": {**_FIELDS, "model_name": {"type": "string"}, "model_version": {"type": "string"}},
    "required": ["model_name", "model_version", "outputs"],
}
INFER: dict[str, Any] = {
    "tag": "inference",
    "body": _BODY,
    "content": {"application/json": _ANSWER, "application/octet-stream": {"type": "string", "format": "binary"}},
    "parameters": (
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "Bytes of JSON before those of binary tensors.",
        },
    ),
    "response_description": "The outputs that were asked for; bytes, if some of them are binary.",
}
"""Arguments of `service.http.starlette_route.PostRoute`."""
