"""Types for names of formats in requests and responses. The API description lists the registered formats."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from service.datasets import formats

STORED = "stored"


@dataclass(frozen=True)
class _Listed:
    """Lists `names`, which are only known at run time, in the JSON schema."""

    names: Callable[[], Iterable[str]]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": [*self.names()]}


class _OneOf(_Listed):
    """As `Literal[names]`: other texts are not valid."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self.names():
            *others, last = map(repr, self.names())
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        return name


FormatName = Annotated[str, _OneOf(formats.registered)]
"""A format of uploads, in a request."""
KeptFormatName = Annotated[str, _Listed(formats.registered)]
"""A format of uploads, in an answer. Its package may no longer be installed."""
DownloadName = Annotated[str, _OneOf(lambda: (*formats.downloads(), STORED))]
"""A format of downloads, or `stored`: the safetensors file itself."""
