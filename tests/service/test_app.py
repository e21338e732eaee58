"""The application as a whole: authentication, its OpenAPI document, limits and outages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from service.access import operations as access
from service.app import create_app
from service.shared.database import Database
from service.shared.settings import Settings
from tests import schema, servers
from tests.conftest import Service
from tests.service.files import packed
from tests.service.steps import fault, problem, queue_dataset, upload

METHODS = ("get", "post", "put", "patch", "delete")


def operations(service: Service) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in service.http.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            yield method, path, operation


def filled(path: str) -> str:
    return path.replace("{version}", "1").replace("{name}", "n").replace("{run_id}", "r").replace("{upload_id}", "u")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Basic abc", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer nonsense", "invalid_api_key"),
        ("Bearer sns_000000000000_wrong", "invalid_api_key"),
    ],
)
def test_every_operation_under_v1_needs_a_key(service: Service, header: str | None, code: str) -> None:
    asked = 0
    with TestClient(service.http.app) as stranger:
        for method, path, _ in operations(service):
            if not path.startswith("/v1"):
                continue
            answer = stranger.request(
                method, filled(path), headers={"Authorization": header} if header is not None else {}
            )
            problem(answer, 401, code)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            asked += 1
    assert asked >= 18


def test_health_needs_no_key(service: Service) -> None:
    with TestClient(service.http.app) as stranger:
        for path in ("/healthz", "/readyz"):
            assert stranger.get(path).json()["status"] == "ok"


def test_another_projects_resources_are_not_found(service: Service) -> None:
    with service.worker.database.writer.begin() as session:
        other = access.create_project(session, "other").id
        _, key = access.create_key(session, other, "theirs")
    mine = upload(service, packed(a=np.zeros((4, 2))))
    queue_dataset(service, "private", a=np.zeros((4, 2)))
    theirs = {"Authorization": f"Bearer {key}"}
    for path in (f"/v1/uploads/{mine}", "/v1/datasets/private", "/v1/datasets/private/versions/1"):
        assert service.http.get(path).status_code == 200
        problem(service.http.get(path, headers=theirs), 404)
    body = {"name": "stolen", "source": {"upload": mine}}
    problem(service.http.post("/v1/datasets", json=body, headers=theirs), 404, "upload_not_found")
    body = {"dataset": {"name": "private"}, "model": "m"}
    problem(service.http.post("/v1/runs", json=body, headers=theirs), 404, "dataset_not_found")
    assert service.http.get("/v1/datasets", headers=theirs).json() == {"datasets": [], "next_page_token": None}


def test_two_projects_may_use_the_same_names(service: Service) -> None:
    with service.worker.database.writer.begin() as session:
        other = access.create_project(session, "namesake").id
        _, key = access.create_key(session, other, "theirs")
    queue_dataset(service, "shared_name", a=np.zeros((4, 2)))
    theirs = {"Authorization": f"Bearer {key}"}
    mine = service.http.post("/v1/uploads", content=packed(a=np.zeros((4, 2))), headers=theirs).json()["id"]
    body = {"name": "shared_name", "source": {"upload": mine}}
    assert service.http.post("/v1/datasets", json=body, headers=theirs).json()["version"] == 1


def test_the_document_names_every_operation_once_and_describes_its_failures(service: Service) -> None:
    ids = []
    for _, path, operation in operations(service):
        ids.append(operation["operationId"])
        assert operation["summary"] or operation["description"]
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
        if path.startswith("/v1"):
            assert "401" in operation["responses"]
    assert len(ids) == len(set(ids)) >= 19
    assert all(name.islower() and name.isidentifier() for name in ids)


def test_the_document_has_no_error_schemas_of_fastapi(service: Service) -> None:
    text = service.http.get("/openapi.json").text
    assert "HTTPValidationError" not in text
    assert "Problem" in text


def test_every_reference_in_the_document_exists(service: Service) -> None:
    document = service.http.get("/openapi.json").json()

    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    found = set(references(document))
    assert found
    for reference in found:
        hash_sign, components, kind, name = reference.split("/")
        assert (hash_sign, components) == ("#", "components"), reference
        assert name in document["components"][kind]


def test_the_documentation_page_is_served(service: Service) -> None:
    assert service.http.get("/docs").status_code == 200


@pytest.fixture
def small(service: Service) -> Iterator[TestClient]:
    """The same service with narrow limits."""
    settings = service.settings.model_copy(update={"request_bytes": 1000, "upload_bytes": 5000})
    headers = {"Authorization": f"Bearer {service.key}"}
    with TestClient(create_app(settings), headers=headers) as http:
        yield http


def test_a_body_over_the_limit_is_too_large(small: TestClient) -> None:
    body = {"dataset": {"name": "d"}, "model": "m" * 2000}
    problem(small.post("/v1/runs", json=body), 413)
    problem(small.post("/v1/runs", content=iter([b"x" * 600] * 3)), 413)
    assert small.get("/v1/runs").status_code == 200


def test_an_upload_over_its_limit_is_refused_and_not_stored(small: TestClient, service: Service) -> None:
    before = {path for path in service.settings.artifacts.rglob("*") if path.is_file()}
    answer = small.post("/v1/uploads", content=iter([b"x" * 3000] * 2))
    problem(answer, 413, "upload_too_large")
    assert {path for path in service.settings.artifacts.rglob("*") if path.is_file()} == before


def test_an_upload_may_be_larger_than_other_requests(small: TestClient) -> None:
    content = packed(a=np.random.default_rng(0).random((50, 5)))
    assert 1000 < len(content) < 5000
    assert small.post("/v1/uploads", content=content).status_code == 201


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(service: Service) -> None:
    settings = service.settings.model_copy(update={"unpacked_bytes": 100_000})
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {service.key}"}) as http:
        answer = http.post("/v1/uploads", content=packed(a=np.zeros(1_000_000)))
    assert fault(answer)[1] == "too_large"


@pytest.fixture
def on_postgresql(postgresql_url: str, tmp_path: Path) -> Iterator[TestClient]:
    """A service over PostgreSQL."""
    schema.install(postgresql_url)
    database = Database(postgresql_url)
    with database.writer.begin() as session:
        project = access.create_project(session, "test").id
        _, key = access.create_key(session, project, "test")
    database.close()
    app = create_app(Settings(home=tmp_path, database=postgresql_url, secret_key=SecretStr("k" * 32)))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False) as http:
        yield http


def test_a_zero_byte_in_a_name_is_not_found(on_postgresql: TestClient) -> None:
    """PostgreSQL does not accept a text with a zero byte."""
    for path in ("/v1/datasets/a%00b", "/v1/runs/a%00b", "/v1/models/a%00b", "/v1/uploads/a%00b"):
        assert on_postgresql.get(path).status_code in (404, 422), path
    assert on_postgresql.get("/v1/runs", params={"page_token": "AA"}).status_code == 400
    body = {"name": "d", "source": {"upload": "a\0b"}}
    assert on_postgresql.post("/v1/datasets", json=body).status_code in (404, 422)


def test_the_service_is_not_ready_without_its_database(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://sensorium@127.0.0.1:{servers.free_port()}/none"
    app = create_app(Settings(home=tmp_path, database=url, secret_key=SecretStr("k" * 32)))
    with TestClient(app, raise_server_exceptions=False) as http:
        assert http.get("/healthz").status_code == 200
        problem(http.get("/readyz"), 503)


def test_a_request_without_a_key_is_refused_before_its_body_is_read(service: Service) -> None:
    with TestClient(service.http.app) as stranger:
        assert stranger.post("/v1/runs", content=b"{").status_code == 401
        assert stranger.post("/v1/runs", content=b"{", headers={"Authorization": "Bearer sns_0_0"}).status_code == 401
