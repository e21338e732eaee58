"""The OpenAPI document is sufficient to call every operation."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.contract.conftest import Document

ROOT = Path(__file__).parents[2]


def _operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_a_unique_id_a_summary_and_a_description(document: Document) -> None:
    ids = [operation["operationId"] for _, operation in _operations(document)]
    assert len(ids) == len(set(ids))
    undescribed = [name for name, one in _operations(document) if not (one.get("summary") and one.get("description"))]
    assert undescribed == []


def test_no_summary_repeats_the_name_of_the_operation(document: Document) -> None:
    repeated = [
        (name, one["summary"])
        for name, one in _operations(document)
        if _words(one["summary"]) in (_words(one["operationId"]), _words(one["operationId"].removeprefix("v2_")))
    ]
    assert repeated == []
    summaries = [one["summary"] for _, one in _operations(document)]
    assert [summary for summary, count in Counter(summaries).items() if count > 1] == []


def _words(text: str) -> list[str]:
    return text.lower().replace("_", " ").split()


def test_every_parameter_body_and_answer_is_described(document: Document) -> None:
    lacking = []
    for name, operation in _operations(document):
        lacking += [(name, each["name"]) for each in operation.get("parameters", ()) if not each.get("description")]
        if "requestBody" in operation and not operation["requestBody"].get("description"):
            lacking.append((name, "body"))
        for status, answer in operation["responses"].items():
            if not answer["description"] or answer["description"] in ("Successful Response", "Validation Error"):
                lacking.append((name, status))
    assert lacking == []


def test_every_schema_and_each_of_its_fields_is_described(document: Document) -> None:
    lacking = [
        place for name, schema in document["components"]["schemas"].items() for place in _undescribed(schema, name)
    ]
    for name, operation in _operations(document):
        for content in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for media_type, body in content.get("content", {}).items():
                lacking += _undescribed(body["schema"], f"{name} {media_type}", needs_own=False)
    assert lacking == []


def _undescribed(schema: Document, place: str, needs_own: bool = True) -> Iterator[str]:
    """The places in a schema that lack a description: the schema itself, and properties at any depth."""
    if needs_own and not schema.get("description") and place != "JsonValue":
        yield place
    for name, inner in schema.get("properties", {}).items():
        yield from _undescribed(inner, f"{place}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _undescribed(schema[key], f"{place}.{key}", needs_own=False)


def test_every_json_answer_has_an_example_that_fits_it(document: Document) -> None:
    lacking, misfits = [], []
    for name, operation in _operations(document):
        for status, answer in operation["responses"].items():
            for media_type, body in answer.get("content", {}).items():
                if status >= "300" or media_type != "application/json":
                    continue
                if not (examples := _examples(body["schema"], document)):
                    lacking.append((name, status))
                misfits += [
                    f"{name}: {why}" for example in examples for why in _misfits(example, body["schema"], document)
                ]
    assert (lacking, misfits) == ([], [])


def test_every_example_of_a_schema_fits_it_and_has_no_field_that_the_schema_lacks(document: Document) -> None:
    misfits = []
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            misfits += [f"{name}: {why}" for why in _misfits(example, schema, document)]
            if isinstance(example, dict):
                misfits += [f"{name}: {field}" for field in example.keys() - schema.get("properties", example).keys()]
    assert misfits == []


def test_every_answer_that_is_not_json_says_what_it_is(document: Document) -> None:
    for name, operation in _operations(document):
        for status, answer in operation["responses"].items():
            for media_type, body in answer.get("content", {}).items():
                if status >= "300" or media_type == "application/json":
                    continue
                assert body["schema"]["type"] == "string", name
                if media_type == "text/event-stream":
                    data = body["x-item-schema"]["properties"]["data"]["contentSchema"]["$ref"]
                    assert data.rpartition("/")[2] in document["components"]["schemas"], name
                    assert body["schema"]["description"], name


def _examples(schema: Document, document: Document) -> list[Any]:
    """The examples of a schema; of a list without own ones, lists of one example of its items."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "examples" in schema or schema.get("type") != "array":
        return list(schema.get("examples", ()))
    return [[example] for example in _examples(schema["items"], document)]


def _misfits(example: Any, schema: Document, document: Document) -> list[str]:
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(example)]


def test_every_tag_that_is_used_is_described_and_no_other(document: Document) -> None:
    used = {tag for _, operation in _operations(document) for tag in operation["tags"]}
    assert {tag["name"] for tag in document["tags"]} == used
    assert all(tag["description"] for tag in document["tags"])


def test_the_document_names_its_licence_and_server_and_explains_what_holds_everywhere(document: Document) -> None:
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert [server["url"] for server in document["servers"]] == ["/"]
    for heading in ("Authentication", "Pages", "Errors", "Repeated requests"):
        assert f"## {heading}" in document["info"]["description"]


def test_every_error_is_a_problem_with_an_example_of_each_code(document: Document) -> None:
    answers = [
        (name, status, answer)
        for name, operation in _operations(document)
        for status, answer in operation["responses"].items()
        if status >= "400"
    ]
    assert len(answers) > len(document["paths"])
    validator = Draft202012Validator({"$ref": "#/components/schemas/Problem", "components": document["components"]})
    for name, status, answer in answers:
        ((media_type, content),) = answer["content"].items()
        assert (media_type, content["schema"]) == (
            "application/problem+json",
            {"$ref": "#/components/schemas/Problem"},
        ), (name, status)
        assert content["examples"], (name, status)
        for code, reference in content["examples"].items():
            assert reference == {"$ref": f"#/components/examples/{code}"}
            problem = document["components"]["examples"][code]["value"]
            assert (problem["code"], str(problem["status"])) == (code, status)
            assert f"`{code}`" in answer["description"]
            assert [error.message for error in validator.iter_errors(problem)] == []


def test_every_operation_of_a_project_declares_that_it_needs_a_key(document: Document) -> None:
    open_calls = [name for name, operation in _operations(document) if not operation.get("security")]
    assert sorted(open_calls) == [
        "GET /errors",
        "GET /errors/{code}",
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
        "GET /v2/health/live",
        "GET /v2/health/ready",
    ]
    lacking = [
        name for name, one in _operations(document) if "/v1" in name and not {"401", "429"} <= set(one["responses"])
    ]
    assert lacking == []


def test_every_json_body_has_an_example_that_fits_it(document: Document) -> None:
    for name, operation in _operations(document):
        body = operation.get("requestBody", {"content": {}})["content"].get("application/json")
        if body is None:
            continue
        schema = body["schema"]
        named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        assert named.get("examples"), name
        validator = Draft202012Validator({**schema, "components": document["components"]})
        for example in named["examples"]:
            assert [error.message for error in validator.iter_errors(example)] == [], name


def test_no_parameter_may_be_null(document: Document) -> None:
    nullable = [
        (name, parameter["name"])
        for name, one in _operations(document)
        for parameter in one.get("parameters", [])
        if "null" in str(parameter["schema"])
    ]
    assert nullable == []
