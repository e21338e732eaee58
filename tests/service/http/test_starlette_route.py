"""Routes of Starlette: their paths are validated by a model, which is their schema in the OpenAPI document too."""

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.http.starlette_route import PostRoute, add_to_document
from service.shared.errors import BadInput


class Path(BaseModel):
    number: Annotated[int, Field(ge=1)]


class Answer(BaseModel):
    text: str
    more: str | None = None


async def answer(request: Request, path: Path) -> Response:
    return PlainTextResponse(f"{path.number + 1}")


ROUTE = PostRoute(
    "/next/{number}",
    "next",
    answer,
    Path,
    tag="inference",
    summary="Next",
    description="The next number.",
    body={"type": "object"},
    content={"application/json": Answer, "application/octet-stream": {"type": "string"}},
)


async def posted(number: str) -> list[dict[str, Any]]:
    """The ASGI messages of the answer."""
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    await ROUTE({"type": "http", "method": "POST", "headers": [], "path_params": {"number": number}}, receive, send)
    return messages


def test_the_answer_gets_the_validated_path() -> None:
    assert [message.get("body") for message in asyncio.run(posted("7"))] == [None, b"8"]


@pytest.mark.parametrize("number", ["0", "x", "1.5"])
def test_a_path_that_does_not_fit_is_refused_at_its_part(number: str) -> None:
    with pytest.raises(BadInput) as caught:
        asyncio.run(posted(number))
    (found,) = caught.value.faults
    assert found.pointer == "number"


def test_the_document_describes_the_route_before_others() -> None:
    document: dict[str, Any] = {"paths": {"/other": {}}, "components": {"schemas": {"Other": {}}}}
    add_to_document(document, [ROUTE])
    assert list(document["paths"]) == ["/next/{number}", "/other"]
    described = document["paths"]["/next/{number}"]["post"]
    schema = {"minimum": 1, "title": "Number", "type": "integer"}
    assert described["parameters"] == [{"name": "number", "in": "path", "required": True, "schema": schema}]
    assert described["responses"]["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Answer"}},
        "application/octet-stream": {"schema": {"type": "string"}},
    }
    assert document["components"]["schemas"].keys() == {"Other", "Answer"}
    assert "default" not in document["components"]["schemas"]["Answer"]["properties"]["more"]  # as FastAPI does
