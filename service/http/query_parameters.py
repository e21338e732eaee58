"""Query parameters: every operation declares them in one Pydantic model, which refuses all others."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated, Any, get_origin, get_type_hints
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from service.shared.errors import BadInput, Fault
from service.shared.period import Moment, Period

MAX_FAULTS = 20
MAX_SHOWN_CHARACTERS = 100
MAX_PAGE_SIZE = 200


class QueryModel(BaseModel):
    """The query parameters of an operation: `query: Annotated[RunQuery, Query()]` in its signature.

    Unknown names are refused, because a misspelt filter must not be ignored.
    """

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_zero_characters(cls, value: Any) -> Any:
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and "\0" in text for text in texts):  # PostgreSQL cannot store one
            raise PydanticCustomError("zero_character", "zero character")
        return value


class PageQuery(QueryModel):
    """The page to return: parameters of every list."""

    page_size: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE, description="Maximum number of items.")] = 50
    page_token: Annotated[str | None, Field(description="`next_page_token` of the previous page.")] = None


class TimedPageQuery(PageQuery):
    """The parameters of every list whose items have the time of their creation."""

    created_after: Annotated[Moment | None, Field(description="Created at this time or later; with time zone.")] = None
    created_before: Annotated[Moment | None, Field(description="Created before this time; with time zone.")] = None

    @property
    def period(self) -> Period:
        """When the items of the list were created."""
        return Period(self.created_after, self.created_before)


def model_of(endpoint: Callable[..., Any]) -> type[QueryModel] | None:
    """The query model in the signature of an endpoint."""
    for hint in get_type_hints(endpoint).values():
        if isinstance(hint, type) and issubclass(hint, QueryModel):
            return hint
    return None


def check(query_string: bytes, model: type[QueryModel] | None) -> None:
    """Raise BadInput for every parameter if the operation has no model, and for a single value that is given twice.

    Pydantic refuses unknown parameters. Of a repeated single value, FastAPI passes only the last one to Pydantic.
    """
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    counts = Counter(name for name, _ in pairs)
    if model is None:
        faults = [unknown(name, ()) for name in islice(counts, MAX_FAULTS)]
    else:
        fields = model.model_fields
        faults = [
            Fault(f"?{name}", "repeated_parameter", f"{name} is given {count} times, expected once")
            for name, count in counts.items()
            if count > 1 and name in fields and get_origin(fields[name].annotation) is not list
        ]
    if faults:
        raise BadInput(faults)


def unknown(name: str, known: Mapping[str, Any] | tuple[()]) -> Fault:
    """The fault of a parameter that the operation does not have."""
    short_name = name[:MAX_SHOWN_CHARACTERS]
    return Fault(f"?{short_name}", "unknown_parameter", f"there is no parameter {short_name!r}, only {sorted(known)}")
