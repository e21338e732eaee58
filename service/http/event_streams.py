"""How the OpenAPI document describes a stream of server-sent events."""

from typing import Any

MEDIA_TYPE = "text/event-stream"


def described(data: str, types: str) -> dict[str, Any]:
    """The content of a response that is a stream.

    data: the name of the schema of an event's data, which the document has for another response. types: what the
    field `event` is. `x-item-schema` is the `itemSchema` of OpenAPI 3.2.
    """
    item = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "Number of the event, for `Last-Event-ID`."},
            "event": {"type": "string", "description": types},
            "data": {
                "type": "string",
                "description": f"The event: JSON of the schema {data}.",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": f"#/components/schemas/{data}"},
            },
        },
    }
    text = f"Server-sent events. The data of each is JSON of the schema {data}. Comments keep it open."
    return {MEDIA_TYPE: {"schema": {"type": "string", "description": text}, "x-item-schema": item}}
