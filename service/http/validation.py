"""Turn the validation errors of Pydantic into faults: place, value and expectation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from models.config.wording import INVALID_VALUE, came, code, expected, sentence, shown
from service.http import query_parameters
from service.http.query_parameters import QueryModel
from service.shared.errors import Fault, pointer

Found = Mapping[str, Any]
Place = tuple[str | int, ...]

_KEY = "[key]"


class _Located(NamedTuple):
    """An error with its place in the body. `is_alternative`: the error of one member of a union."""

    place: Place
    found: Found
    is_alternative: bool


def in_body(found: Iterable[Found], body: Any, schema: Any) -> list[Fault]:
    """The faults of a body. schema: the expected type."""
    located = [_locate(one, body, schema) for one in found]
    below = {one.place[:end] for one in located for end in range(len(one.place))}
    faults: list[Fault] = []
    alternatives: dict[Place, list[_Located]] = {}
    for one in located:
        if not one.is_alternative:
            faults.append(_fault(one, schema))
        elif one.place not in below:  # else the value is of another member, whose faults are inside the value
            alternatives.setdefault(one.place, []).append(one)
    return faults + [_none_of(several) for several in alternatives.values()]


def in_parameter(found: Found, query: type[QueryModel] | None) -> Fault:
    """The fault of a query parameter, a header, or a part of the path. query: the parameters of the operation."""
    where, name, *inside = found["loc"]
    if found["type"] == "extra_forbidden" and query is not None:
        return query_parameters.unknown(name, query.model_fields)
    place = f"?{name}" if where == "query" else str(name)
    return Fault(place, code(found), sentence(".".join(map(str, (name, *inside))), found))


def _locate(found: Found, body: Any, schema: Any) -> _Located:
    """Pydantic's path without the steps that a body does not have: names of union members and marks of keys."""
    path, may_lack_last = list(found["loc"]), found["type"] == "missing"
    if found["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(found["ctx"]["discriminator"].strip("'"))
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
            is_alternative = not any(_is(one, step) for one in _types_at(schema, path[:number]))
    return _Located(tuple(place), found, is_alternative)


def _fault(one: _Located, schema: Any) -> Fault:
    place, found, _ = one
    name, kind = ".".join(map(str, place)) or "the body", found["type"]
    if kind == "extra_forbidden":
        around = ".".join(map(str, place[:-1])) or "the body"
        known = ", ".join(_fields(_types_at(schema, found["loc"][:-1])))
        detail = f"{around} has a field {shown(place[-1])}, expected only {known or 'fields that the API has'}"
    elif kind == "union_tag_not_found":
        detail = f"{name} is missing, expected one of {', '.join(_choices(schema, found['loc'], place[-1]))}"
    elif kind == "union_tag_invalid":
        detail = f"{name} is {shown(found['input'][place[-1]])}, expected {expected(found)}"
    elif kind == "missing":
        detail = f"{name} is missing, expected {_kind(_types_at(schema, found['loc']))}"
    elif found["loc"][-1:] == (_KEY,):
        around = ".".join(map(str, place[:-1]))
        detail = f"{around} has a key {shown(place[-1])}, expected {expected(found)}"
    else:
        detail = sentence(name, found)
    return Fault(pointer(*place), code(found), detail)


def _none_of(several: Sequence[_Located]) -> Fault:
    """One fault for a value that fits no member of a union."""
    place, found, _ = several[0]
    words = ", or ".join(dict.fromkeys(expected(one.found) for one in several))
    codes = {code(one.found) for one in several}
    detail = f"{'.'.join(map(str, place))} {came(found)}, expected {words}"
    return Fault(pointer(*place), codes.pop() if len(codes) == 1 else INVALID_VALUE, detail)


def _types_at(schema: Any, path: Sequence[str | int]) -> list[Any]:
    """The expected types at a place of a body. path: Pydantic's."""
    types = list(_members(schema))
    for step in path:
        types = [inner for one in types for inner in _inside(one, step)] or [one for one in types if _is(one, step)]
    return types


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the annotation itself."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _members(one)
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
    models = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
    return sorted({field.alias or name for one in models for name, field in one.model_fields.items()})


def _choices(schema: Any, path: Sequence[str | int], tag: str | int) -> list[str]:
    """The discriminator values of a union."""
    types = _types_at(schema, [*path, tag])
    return [repr(word) for one in types if get_origin(one) is Literal for word in get_args(one)]
