"""The type of stored JSON in the OpenAPI document, without validating it again when it is read."""

from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class DocumentedAs:
    """`Annotated[dict[str, Any], DocumentedAs(kind)]`: a JSON object that was of this type when it was stored.

    For answers only. Validating the configurations of 200 runs would take longer than reading them from the database.
    """

    kind: Any

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # inside of another schema it becomes a reference to the component of its name
        return handler(core_schema.no_info_after_validator_function(_same, TypeAdapter(self.kind).core_schema))


def _same(value: Any) -> Any:
    return value
