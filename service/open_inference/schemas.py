"""Bodies of `infer`, for the OpenAPI document: the hot path carries tensors past Pydantic."""

from typing import Any

from fastapi import Response

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
_BINARY = {"schema": {"type": "string", "format": "binary"}}
INFER: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}},
        "parameters": [
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "Bytes of JSON before those of binary tensors.",
            }
        ],
    },
    "responses": {
        200: {
            "description": "The outputs that were asked for; bytes, when some of them are binary.",
            "content": {"application/json": {"schema": _ANSWER}, "application/octet-stream": _BINARY},
        }
    },
    "response_class": Response,
}
