"""Turn the validation errors of Pydantic into faults: place, value and expectation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from models.config.wording import INVALID_VALUE, came, code, expected, sentence, shown
from service.http import query_parameters
from service.http.query_parameters import QueryModel
from service.shared.errors import Fault, pointer

PydanticError = Mapping[str, Any]
Place = tuple[str | int, ...]

_KEY = "[key]"


class _Located(NamedTuple):
    """An error with its place in the body. `is_alternative`: the error of one member of a union."""

    place: Place
    error: PydanticError
    is_alternative: bool


def in_body(errors: Iterable[PydanticError], body: Any, schema: Any) -> list[Fault]:
    """The faults of a body. schema: the expected type."""
    located = [_locate(each, body, schema) for each in errors]
    below = {each.place[:end] for each in located for end in range(len(each.place))}
    faults: list[Fault] = []
    alternatives: dict[Place, list[_Located]] = {}
    for each in located:
        if not each.is_alternative:
            faults.append(_fault(each, schema))
        elif each.place not in below:  # else the value is of another member, whose faults are inside the value
            alternatives.setdefault(each.place, []).append(each)
    return faults + [_none_of(several) for several in alternatives.values()]


def in_parameter(error: PydanticError, query: type[QueryModel] | None) -> Fault:
    """The fault of a query parameter, a header, or a part of the path. query: the parameters of the operation."""
    where, name, *inside = error["loc"]
    if error["type"] == "extra_forbidden" and query is not None:
        return query_parameters.unknown(name, query.model_fields)
    place = f"?{name}" if where == "query" else str(name)
    return Fault(place, code(error), sentence(".".join(map(str, (name, *inside))), error))


def _locate(error: PydanticError, body: Any, schema: Any) -> _Located:
    """Pydantic's path without the steps that a body does not have: names of union members and marks of keys."""
    path, may_lack_last = list(error["loc"]), error["type"] == "missing"
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(error["ctx"]["discriminator"].strip("'"))
        may_lack_last = True
    place: list[str | int] = []
    is_alternative = False
    for number, step in enumerate(path):
        inside = (isinstance(body, dict) and step in body) or (isinstance(body, list) and isinstance(step, int))
        if inside:
            body = body[step]
        if inside or (may_lack_last and number == len(path) - 1):
            place.append(step)
            is_alternative = False
        elif step != _KEY:  # other members have names such as `literal['auto']` and `constrained-float`
            is_alternative = not any(_is(expected_type, step) for expected_type in _types_at(schema, path[:number]))
    return _Located(tuple(place), error, is_alternative)


def _fault(located: _Located, schema: Any) -> Fault:
    place, error, _ = located
    name, kind = ".".join(map(str, place)) or "the body", error["type"]
    if kind == "extra_forbidden":
        around = ".".join(map(str, place[:-1])) or "the body"
        known = ", ".join(_fields(_types_at(schema, error["loc"][:-1])))
        detail = f"{around} has a field {shown(place[-1])}, expected only {known or 'fields that the API has'}"
    elif kind == "union_tag_not_found":
        detail = f"{name} is missing, expected one of {', '.join(_choices(schema, error['loc'], place[-1]))}"
    elif kind == "union_tag_invalid":
        detail = f"{name} is {shown(error['input'][place[-1]])}, expected {expected(error)}"
    elif kind == "missing":
        detail = f"{name} is missing, expected {_kind(_types_at(schema, error['loc']))}"
    elif error["loc"][-1:] == (_KEY,):
        around = ".".join(map(str, place[:-1]))
        detail = f"{around} has a key {shown(place[-1])}, expected {expected(error)}"
    else:
        detail = sentence(name, error)
    return Fault(pointer(*place), code(error), detail)


def _none_of(several: Sequence[_Located]) -> Fault:
    """One fault for a value that fits no member of a union."""
    place, error, _ = several[0]
    words = ", or ".join(dict.fromkeys(expected(each.error) for each in several))
    codes = {code(each.error) for each in several}
    detail = f"{'.'.join(map(str, place))} {came(error)}, expected {words}"
    return Fault(pointer(*place), codes.pop() if len(codes) == 1 else INVALID_VALUE, detail)


def _types_at(schema: Any, path: Sequence[str | int]) -> list[Any]:
    """The expected types at a place of a body. path: Pydantic's."""
    types = list(_members(schema))
    for step in path:
        types = [inner for member in types for inner in _inside(member, step)] or [
            member for member in types if _is(member, step)
        ]
    return types


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the annotation itself."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _inside(annotation: Any, step: str | int) -> Iterator[Any]:
    """The types of one field of an object, or of one item of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if step == (field.alias or name):
                yield from _members(field.annotation)
    elif get_origin(annotation) in (list, tuple, dict):
        yield from _members(get_args(annotation)[get_origin(annotation) is dict])


def _is(annotation: Any, tag: str | int) -> bool:
    """Whether Pydantic names a union member so: by its class or by its discriminator."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return False
    words = [get_args(field.annotation) for field in annotation.model_fields.values()]
    return tag == annotation.__name__ or any(tag in word for word in words)


def _kind(types: Sequence[Any]) -> str:
    """The kind of value that these types take, in words of JSON."""
    first = types[0] if types else None
    origin = get_origin(first)
    if origin is Literal:
        return ", ".join(map(repr, get_args(first)))
    if origin in (list, tuple, dict):
        return "an object" if origin is dict else "a list"
    if isinstance(first, type) and issubclass(first, BaseModel):
        return "an object"
    words: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(first, "a value")


def _fields(types: Sequence[Any]) -> list[str]:
    """The field names of these models."""
    models = [model for model in types if isinstance(model, type) and issubclass(model, BaseModel)]
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()})


def _choices(schema: Any, path: Sequence[str | int], tag: str | int) -> list[str]:
    """The discriminator values of a union."""
    types = _types_at(schema, [*path, tag])
    return [repr(word) for member in types if get_origin(member) is Literal for word in get_args(member)]
