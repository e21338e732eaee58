"""Every message about a request is our own: it names the place, the value and the expectation.

Each field of each body and each parameter in the OpenAPI document gets invalid values.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from models.config.wording import CODES, INVALID_VALUE
from service.app import ROUTERS
from service.http import validation
from tests.conftest import Service
from tests.contract.conftest import Document

# What Pydantic, FastAPI and the parsers of JSON write, and how Python writes what JSON calls otherwise.
Request = tuple[str, str, dict[str, Any]]

LIBRARIES = re.compile(
    r"Input should|Field required|Value error|Extra inputs|String should|should (be|have|match)|should not|"
    r"valid (dictionary|string|integer|number|boolean|datetime|list|tuple)|Unable to|discriminator|expected tags|"
    r"JSON decode|Expecting|unexpected (char|end|content)|trailing|orjson|pydantic|Decoder|Assertion|instance of|"
    r"constrained|function-|dict\[|literal\[|\bNone\b|\bTrue\b|\bFalse\b|\(\): |API description allows|"
    r"psycopg|sqlite"
)
MAX_CHARACTERS = 1500
WRONG: tuple[Any, ...] = (
    None, 1.5, "?", [], {}, {"?": None}, True, -1, 0, 10**30, float("inf"), "", "\ud800", "x" * 5000, [None], ["?"],
    ["x"] * 21, {"x": {"?": 1}}, {"name": "?"},
)  # fmt: skip
NOT_JSON = (b"", b"{", b"\xff", b"{'a': 1}", b'{"a": 1,}', b"[" * 5000, b'"\\ud800"', b"9" * 5000)
JSON = {"content-type": "application/json"}
WRONG_PARAMETERS = ("", "-1", "0", "1.5", "9" * 30, "9" * 5000, "?", "x" * 500, "2026-01-01T00:00:00", "yesterday", "é")
# Bodies provoke every code for values; parameters provoke these.
IN_BODIES = {*CODES} - {"zero_character"}  # `service.shared.json_documents` refuses it earlier
IN_REQUESTS = {"wrong_type", "wrong_format", "out_of_range", "unknown_value", "too_short", "too_long", "not_json"}


def _unfit(faults: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Problems of the messages of some faults."""
    for one in faults:
        detail, place = one["detail"], one["pointer"]
        name = place[1:] if place.startswith("?") else place.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        if LIBRARIES.search(detail) or len(detail) > MAX_CHARACTERS:
            yield f"not ours: {one}"
        if not re.search(re.escape(name[:40]) or "body|file|upload", detail, re.IGNORECASE):
            yield f"no place: {one}"
        if one["code"] != INVALID_VALUE and not re.search("expected|there is no", detail):
            yield f"not what was expected: {one}"


def _resolved(schema: Document, document: Document) -> list[Document]:
    """The schemas that a value may have, without references and alternatives."""
    if "$ref" in schema:
        return _resolved(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    several = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [one for inner in several for one in _resolved(inner, document)] if several else [schema]


def _sample(schema: Document, document: Document) -> Any:
    """A value that has all fields that an object needs."""
    first = _resolved(schema, document)[0]
    if "const" in first or "enum" in first:
        return first.get("const", first.get("enum", [None])[0])
    if first.get("type") == "object":
        needed = first.get("required", ())
        return {name: _sample(one, document) for name, one in first.get("properties", {}).items() if name in needed}
    return {"string": "x", "integer": 1, "number": 0.5, "boolean": True, "array": []}.get(first.get("type", ""), "x")


def _bodies(schema: Document, document: Document, depth: int = 0) -> Iterator[Any]:
    """Values with one invalid field, for each field of each alternative."""
    yield from WRONG
    for one in _resolved(schema, document) if depth < 6 else ():
        if one.get("type") == "array" and "items" in one:
            yield from ([wrong] for wrong in _bodies(one["items"], document, depth + 1))
        if isinstance(one.get("additionalProperties"), dict):
            yield from ({"x": wrong} for wrong in _bodies(one["additionalProperties"], document, depth + 1))
        sample = _sample(one, document)
        for name, inner in one.get("properties", {}).items():
            for wrong in _bodies(inner, document, depth + 1):
                yield {**copy.copy(sample), name: wrong}
        for name in one.get("required", ()):
            yield {other: value for other, value in sample.items() if other != name}


def test_messages_about_every_body_field_are_our_own(document: Document, service: Service) -> None:
    codes, wrong = set[str](), list[str]()
    for route in (route for router in ROUTERS for route in router.routes):
        schema = get_type_hints(route.endpoint).get("body")
        if schema is None:
            continue
        described = document["components"]["schemas"][schema.__name__]
        for body in {repr(one): one for one in _bodies(described, document)}.values():
            try:
                TypeAdapter(schema).validate_python(body, from_attributes=True)  # as FastAPI does
            except ValidationError as error:
                faults = [asdict(one) for one in validation.in_body(error.errors(), body, schema)]
                codes |= {one["code"] for one in faults}
                wrong += [f"{schema.__name__} {str(body)[:200]}: {one[:500]}" for one in _unfit(faults)]
    assert wrong == []
    assert codes == IN_BODIES


def _requests(document: Document) -> Iterator[Request]:
    """Method, path and the other parts of a request."""
    for path, operations in document["paths"].items():
        concrete = re.sub(r"\{version\}|\{step\}", "1", re.sub(r"\{(?!version|step)[a-z_]+\}", "x", path))
        for method, operation in operations.items():
            if "application/json" in operation.get("requestBody", {"content": {}})["content"]:
                yield from ((method, concrete, {"json": one}) for one in WRONG[:6])
                yield from ((method, concrete, {"content": one, "headers": JSON}) for one in NOT_JSON)
            for parameter in operation.get("parameters", ()):
                where = {"query": "params", "header": "headers"}.get(parameter["in"])
                name = parameter["name"]
                if where == "params":
                    yield from ((method, concrete, {where: {name: one}}) for one in WRONG_PARAMETERS)
                    yield method, concrete, {where: {name: ["x"] * 300}}
                elif where == "headers":
                    yield from ((method, concrete, {where: {name: one}}) for one in WRONG_PARAMETERS if one.isascii())


def test_messages_about_every_invalid_request_are_our_own(service: Service, document: Document) -> None:
    codes, wrong = set[str](), list[str]()
    for method, path, given in _requests(document):
        answer = service.http.request(method, path, **given)
        body = answer.json() if answer.status_code >= 400 else {"errors": []}
        unfit = list(_unfit(body["errors"]))
        if answer.status_code >= 500 or LIBRARIES.search(body.get("detail", "")):
            unfit.append(f"{answer.status_code}: {body['detail']}")
        codes |= {one["code"] for one in body["errors"]}
        wrong += [f"{method} {path} {str(given)[:200]}: {one[:500]}" for one in unfit]
    assert wrong == []
    assert codes >= IN_REQUESTS


def test_every_list_of_a_query_is_bounded(service: Service, document: Document) -> None:
    bounded = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["schema"].get("type") != "array":
                    continue
                most = parameter["schema"]["maxItems"]
                items = parameter["schema"]["items"].get("enum", ["x"])[:1] * (most + 1)
                answer = service.http.request(method, path.replace("{run_id}", "x"), params={parameter["name"]: items})
                assert answer.status_code == 422, (path, parameter["name"])
                assert answer.json()["detail"] == f"{parameter['name']} has {most + 1} items, expected at most {most}"
                bounded.append(parameter["name"])
    assert sorted(bounded) == ["filter", "name", "run", "state", "tag", "type"]
    many = service.http.get("/v1/runs", params=[("tag", f"t{number}") for number in range(3000)])
    assert (many.status_code, many.json()["errors"][0]["pointer"]) == (422, "?tag")


def test_a_parameter_that_is_one_value_is_not_given_twice(service: Service) -> None:
    answer = service.http.get("/v1/runs?page_size=1&page_size=2")
    assert answer.json()["errors"] == [
        {"pointer": "?page_size", "code": "repeated_parameter", "detail": "page_size is given 2 times, expected once"}
    ]
