"""POST routes that Starlette serves without FastAPI, and their part of the OpenAPI document.

For inference: FastAPI would spend a quarter of the time of a small request on the parameters of its endpoint.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.http import error_responses, validation
from service.http.authentication import Authentication, Operation
from service.http.header_fields import fields
from service.shared.errors import BadInput

Path = TypeVar("Path", bound=BaseModel)
Schema = Mapping[str, Any]
_TEMPLATE = "#/components/schemas/{model}"


@dataclass(frozen=True, eq=False)
class PostRoute(Generic[Path]):
    """A route for callers with an API key, and what the OpenAPI document says about it.

    path_parameters: a model with a field for each; `answer` gets an instance of it. body: the model or the JSON schema
    of the request. content: those of the answer, by media type. parameters: those that are not in the path, as OpenAPI
    describes them. errors: the codes of its errors, as for `error_responses.errors`. headers:
    the fields of its answer, as for `header_fields.fields`.
    """

    path: str
    operation_id: str
    answer: Callable[[Request, Path], Awaitable[Response]]
    path_parameters: type[Path]
    tag: str
    summary: str
    description: str
    body: type[BaseModel] | Schema
    content: Mapping[str, type[BaseModel] | Schema]
    parameters: tuple[Schema, ...] = ()
    response_description: str = "Successful Response"
    errors: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()

    def route(self) -> Route:
        """The route: authentication, then this object as its ASGI endpoint."""
        operation = Operation.of(self.operation_id, self.path, ("POST",), (self.tag,), self.__call__)
        middleware = [Middleware(Authentication, operation=operation)]
        return Route(self.path, self, methods=["POST"], name=self.operation_id, middleware=middleware)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Validate the path, then answer. The handlers of the application render errors."""
        try:
            path = self.path_parameters.model_validate_strings(scope["path_params"])
        except ValidationError as error:
            errors = [{**each, "loc": ("path", *each["loc"])} for each in error.errors()]
            raise BadInput([validation.in_parameter(each, None) for each in errors]) from error
        response = await self.answer(Request(scope, receive), path)
        await response(scope, receive, send)

    def described(self) -> dict[str, Any]:
        """The operation object of OpenAPI."""
        in_path = [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in self.path_parameters.model_json_schema()["properties"].items()
        ]
        content = {media_type: {"schema": _schema(schema)} for media_type, schema in self.content.items()}
        return {
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.description,
            "operationId": self.operation_id,
            "parameters": [*in_path, *self.parameters],
            "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(self.body)}}},
            "responses": {
                "200": {"description": self.response_description, "content": content, **fields(*self.headers)},
                **{str(status): response for status, response in error_responses.errors(*self.errors).items()},
            },
        }


def add_to_document(document: dict[str, Any], routes: Iterable[PostRoute[Any]]) -> None:
    """Add routes to an OpenAPI document, before its other paths, and the models of their bodies to its components.

    FastAPI leaves `null` out of the document, so that no parameter has the default null.
    """
    paths: dict[str, Any] = {}
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for route in routes:
        paths[route.path] = {"post": route.described()}
        if isinstance(route.body, type):
            models[route.body, "validation"] = None
        models |= {(schema, "serialization"): None for schema in route.content.values() if isinstance(schema, type)}
    _, definitions = models_json_schema([*models], ref_template=_TEMPLATE)
    document["paths"] = jsonable_encoder(paths, exclude_none=True) | document["paths"]
    document["components"]["schemas"] |= jsonable_encoder(definitions["$defs"], exclude_none=True)


def _schema(schema: type[BaseModel] | Schema) -> Schema:
    """A reference to the component of a model, or the schema itself."""
    return {"$ref": _TEMPLATE.format(model=schema.__name__)} if isinstance(schema, type) else schema
