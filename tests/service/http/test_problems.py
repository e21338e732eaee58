"""Every error has one shape, names its place, and carries the request's id."""

from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from service.app import create_app
from tests.conftest import Service, wait_until
from tests.service.steps import fault, problem

RUN = {"dataset": {"name": "d"}, "model": "m"}


@pytest.mark.parametrize(
    ("body", "place", "code"),
    [
        ({**RUN, "colour": "red"}, "/colour", "unknown_field"),
        ({"model": "m"}, "/dataset", "missing"),
        ({**RUN, "model": 5}, "/model", "wrong_type"),
        ({**RUN, "model": "../up"}, "/model", "wrong_format"),
        ({**RUN, "model": ""}, "/model", "wrong_format"),
        ({**RUN, "seed": -1}, "/seed", "out_of_range"),
        ({**RUN, "seed": "one"}, "/seed", "wrong_type"),
        ({**RUN, "seed": "7"}, "/seed", "wrong_type"),
        ({**RUN, "seed": True}, "/seed", "wrong_type"),
        ({**RUN, "training": {"learning_rate": "0.1"}}, "/training/learning_rate", "wrong_type"),
        ({**RUN, "training": {"checkpoint_epochs": "1"}}, "/training/checkpoint_epochs", "wrong_type"),
        ({**RUN, "dataset": "d"}, "/dataset", "wrong_type"),
        ({**RUN, "dataset": {"name": "d", "version": 0}}, "/dataset/version", "out_of_range"),
        ({**RUN, "training": {"epochs": 0}}, "/training/epochs", "out_of_range"),
        ({**RUN, "training": {"epochs": 1.5}}, "/training/epochs", "wrong_type"),
        ({**RUN, "training": {"learning_rate": "nan"}}, "/training/learning_rate", None),
        ({**RUN, "training": {"gradient_clip_norm": "inf"}}, "/training/gradient_clip_norm", None),
        ({**RUN, "training": {"optimiser": "sgd"}}, "/training/optimiser", "unknown_value"),
        ({**RUN, "architecture": {"architecture": "gan"}}, "/architecture/architecture", "unknown_value"),
        ({**RUN, "a/b~c": 1}, "/a~1b~0c", "unknown_field"),
        ([], "", "wrong_type"),
    ],
    ids=str,
)
def test_a_body_that_does_not_fit_names_the_place(service: Service, body: Any, place: str, code: str | None) -> None:
    found = fault(service.http.post("/v1/runs", json=body))
    assert found[0] == place
    if code is not None:
        assert found[1] == code


def test_a_whole_number_may_be_written_with_a_decimal_point(service: Service) -> None:
    content = b'{"dataset": {"name": "none", "version": 1.0}, "model": "m", "seed": 7.0, "training": {"epochs": 2e1}}'
    answer = service.http.post("/v1/runs", content=content, headers={"content-type": "application/json"})
    problem(answer, 404, "dataset_not_found")


def test_a_converted_type_is_reported_with_all_other_faults(service: Service) -> None:
    body = problem(service.http.post("/v1/runs", json={"dataset": {}, "model": "m", "seed": "7", "x": 1}), 422)
    assert {found["pointer"] for found in body["errors"]} == {"/dataset/name", "/seed", "/x"}


def test_all_faults_of_a_body_are_in_one_answer(service: Service) -> None:
    body = problem(service.http.post("/v1/runs", json={"dataset": {}, "model": 5, "x": 1}), 422, "invalid_input")
    assert {found["pointer"] for found in body["errors"]} == {"/dataset/name", "/model", "/x"}
    assert body["detail"].endswith("(and 2 more)")


def test_a_body_that_is_not_json_is_refused(service: Service) -> None:
    expected = {
        b"": (422, "missing"),
        b"{": (422, "not_json"),
        b"{'a': 1}": (422, "not_json"),
        b"\xff\xfe": (422, "not_json"),  # nothing, in UTF-16
        b'{"model": "\xff"}': (400, "not_json"),
        b"[" * 20_000: (400, "not_json"),
        b'{"seed": ' + b"1" * 5000 + b"}": (400, "not_json"),
    }
    for content, (status, code) in expected.items():
        answer = service.http.post("/v1/runs", content=content, headers={"content-type": "application/json"})
        assert fault(answer, status) == ("", code)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=utf-8", 404),
        ("Application/merge-patch+JSON", 404),
        ("text/plain", 415),
        ("json", 415),
        ("", 415),
    ],
)
def test_a_document_is_read_if_its_content_type_is_json(service: Service, content_type: str, status: int) -> None:
    content = b'{"dataset": {"name": "none"}, "model": "m"}'
    answer = service.http.post("/v1/runs", content=content, headers={"content-type": content_type})
    problem(answer, status)


@pytest.mark.parametrize(
    "content", [b'{"\\ud800": 1}', b'{"dataset": {"name": "\\ud800"}, "model": "m"}'], ids=["field", "value"]
)
def test_half_a_surrogate_pair_is_bad_input(service: Service, content: bytes) -> None:
    with TestClient(service.http.app, headers=dict(service.http.headers), raise_server_exceptions=False) as http:
        answer = http.post("/v1/runs", content=content, headers={"content-type": "application/json"})
    assert problem(answer, 422)["code"] == "invalid_input"


def test_half_a_surrogate_pair_as_an_upload_is_not_found(service: Service) -> None:
    content = b'{"name": "d", "source": {"upload": "\\ud800"}}'
    with TestClient(service.http.app, headers=dict(service.http.headers), raise_server_exceptions=False) as http:
        answer = http.post("/v1/datasets", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (404, 422)


def test_a_long_value_is_shown_shortened(service: Service) -> None:
    body = problem(service.http.post("/v1/runs", json={**RUN, "seed": "x" * 10_000}), 422)
    assert len(body["errors"][0]["detail"]) < 300


def test_an_unknown_path_and_an_unknown_method_answer_problems(service: Service) -> None:
    problem(service.http.get("/v1/nothing"), 404, "not_found")
    answer = service.http.delete("/v1/runs")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


def test_the_answer_has_the_request_id_of_the_client(service: Service) -> None:
    answer = service.http.get("/healthz", headers={"X-Request-ID": "trace-42"})
    assert answer.headers["x-request-id"] == "trace-42"
    body = problem(service.http.get("/v1/runs/run_none", headers={"X-Request-ID": "trace-43"}), 404)
    assert body["request_id"] == "trace-43"


@pytest.mark.parametrize("given", ["", "x" * 101, "tab\there", "é"])
def test_an_invalid_request_id_is_replaced(service: Service, given: str) -> None:
    answer = service.http.get("/healthz", headers={"X-Request-ID": given.encode("latin-1")})
    assert answer.headers["x-request-id"].startswith("req_")


def test_each_request_without_an_id_gets_a_new_one(service: Service) -> None:
    ids = {service.http.get("/healthz").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_an_internal_error_shows_only_the_request_id(service: Service) -> None:
    app = create_app(service.settings)

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("the secret of the house")

    with TestClient(app, raise_server_exceptions=False) as http:
        answer = http.get("/boom", headers={"X-Request-ID": "trace-44"})
        body = answer.json()
        assert (answer.status_code, body["code"], body["request_id"]) == (500, "internal_error", "trace-44")
        assert "secret" not in answer.text
        problem(answer, 500)
        assert http.get("/healthz").status_code == 200


def test_an_outage_of_the_database_is_logged_once_and_so_is_its_end(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OperationalError("SELECT 1", {}, psycopg.OperationalError("connection refused"))

    with capture_logs() as lines:
        monkeypatch.setattr(service.http.app.state.services.database, "reader", refuse)  # type: ignore[attr-defined]
        for _ in range(5):
            answer = service.http.get("/v1/runs")
            problem(answer, 503, "database_unavailable")
            assert "connection refused" not in answer.text
        monkeypatch.undo()
        wait_until(lambda: any(line["event"] == "database_recovered" for line in lines), 60)
    told = [line["event"] for line in lines if line["log_level"] != "debug" and line["event"].startswith("database_")]
    assert told == ["database_failed", "database_recovered"]
