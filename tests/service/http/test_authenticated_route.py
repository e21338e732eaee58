"""JSON documents are limited before they are parsed, and their keys are unique."""

from typing import Any

import pytest

from service.shared import json_documents
from tests.conftest import Service
from tests.service.steps import problem

JSON = {"Content-Type": "application/json"}


def send(service: Service, path: str, content: bytes, method: str = "POST") -> dict[str, Any]:
    answer = service.http.request(method, path, content=content, headers=JSON)
    body: dict[str, Any] = problem(answer, answer.status_code)
    return body


@pytest.mark.parametrize(
    ("path", "content", "place"),
    [
        ("/v1/runs", b'{"model": "m", "dataset": {"name": "d"}, "model": "n"}', "/model"),
        ("/v1/runs", b'{"dataset": {"name": "d", "version": 1, "version": 2}, "model": "m"}', "/dataset/version"),
        ("/v1/runs", b'{"tags": ["a", {"b~/": 1, "b~/": 2}], "model": "m"}', "/tags/1/b~0~1"),
        ("/v1/runs", b'{"dataset": {"a": 1, "a": 2}, "dataset": {"name": "d"}, "model": "m"}', "/dataset"),
        ("/v1/runs", b'{"seed": 1, "s\\u0065ed": 2}', "/seed"),
        ("/v1/datasets", b'{"name": "d", "schema": {"modalities": {"x": {}, "x": {}}}}', "/schema/modalities/x"),
        ("/v1/api-keys", b'{"name": "a", "scopes": ["read"], "scopes": ["admin"]}', "/scopes"),
        ("/v2/repository/index", b'{"ready": true, "ready": false}', "/ready"),
    ],
)
def test_a_repeated_key_is_refused_with_its_place(service: Service, path: str, content: bytes, place: str) -> None:
    body = send(service, path, content)
    assert (body["status"], body["code"]) == (422, "invalid_input")
    assert [(fault["pointer"], fault["code"]) for fault in body["errors"]] == [(place, "duplicate_key")]
    assert "twice" in body["detail"]


def test_the_same_key_in_different_objects_is_accepted(service: Service) -> None:
    content = b'{"dataset": {"name": "d"}, "model": "m", "init_from": {"model": "m", "version": 1}}'
    assert send(service, "/v1/runs", content)["code"] == "dataset_not_found"


def test_a_long_repeated_key_is_shown_shortened(service: Service) -> None:
    key = b"k" * 100_000
    body = send(service, "/v1/runs", b'{"' + key + b'": 1, "' + key + b'": 2}')
    assert body["errors"][0]["code"] == "duplicate_key"
    assert len(body["detail"]) < 500
    assert len(body["errors"][0]["pointer"]) < 500


@pytest.mark.parametrize("count", [20_000, 60_000])
def test_a_document_with_too_many_values_is_refused(service: Service, count: int) -> None:
    names = ", ".join(f'"m{number}": {{}}' for number in range(count))
    content = f'{{"name": "d", "source": {{"upload": "u"}}, "schema": {{"modalities": {{{names}}}}}}}'.encode()
    body = send(service, "/v1/datasets", content)
    assert [fault["code"] for fault in body["errors"]] == ["too_many_values"]


def test_the_maximum_number_of_modalities_is_accepted(service: Service) -> None:
    said = '{"dtype": "float32", "shape": [1, 2, 3, 4, 5, 6], "units": "metres", "likelihood": "gaussian"}'

    def content(count: int) -> bytes:
        names = ", ".join(f'"m{number}": {said}' for number in range(count))
        return f'{{"name": "d", "source": {{"upload": "u"}}, "schema": {{"modalities": {{{names}}}}}}}'.encode()

    assert send(service, "/v1/datasets", content(1000))["code"] == "upload_not_found"
    assert [fault["code"] for fault in send(service, "/v1/datasets", content(1001))["errors"]] == ["too_long"]


def test_a_column_with_two_roles_is_named(service: Service) -> None:
    content = b'{"name": "d", "source": {"upload": "u"}, "schema": {"ids": "x", "modalities": {"x": {}, "y": {}}}}'
    assert "x has two roles" in send(service, "/v1/datasets", content)["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/runs"),
        ("POST", "/v1/datasets"),
        ("PATCH", "/v1/runs/run_none"),
        ("POST", "/v1/runs/run_none/retry"),
        ("PUT", "/v1/models/m/aliases/production"),
        ("POST", "/v2/repository/index"),
    ],
)
def test_a_document_over_the_limit_is_too_large(service: Service, method: str, path: str) -> None:
    body = send(service, path, b" " * json_documents.MAX_BYTES + b"{}", method)
    assert (body["status"], body["detail"]) == (413, f"the body has more than {json_documents.MAX_BYTES} bytes")


def test_inference_requests_may_be_larger_than_documents(service: Service) -> None:
    body = send(service, "/v1/models/none/versions/1/encode", b" " * json_documents.MAX_BYTES + b"{}")
    assert body["code"] == "model_version_not_found"
