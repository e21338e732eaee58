"""A repeated create request creates nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import func, select, update

from service.access import idempotent_answers
from service.access import operations as access
from service.access.tables import AuditEvent, IdempotencyKey, Project
from service.app import create_app
from service.datasets.tables import Upload
from service.shared import broker
from service.shared.database import Database, now
from service.shared.settings import Settings
from tests import schema, servers
from tests.conftest import Service, wait_until
from tests.service.files import packed
from tests.service.steps import dataset, fault, pictures, problem, queue_run

SOURCE = {"generator": {"name": "spirals", "rows": 4, "steps": 3}}


@pytest.fixture
def api(empty_database_url: str, tmp_path: Path) -> Iterator[tuple[TestClient, Database, str]]:
    """A service on each database, and the key of another project."""
    schema.install(empty_database_url)
    database = Database(empty_database_url)
    with database.writer.begin() as session:
        _, key = access.create_key(session, access.create_project(session, "ours").id, "k")
        _, other = access.create_key(session, access.create_project(session, "theirs").id, "k")
    app = create_app(Settings(home=tmp_path, database=empty_database_url, secret_key=SecretStr("k" * 32)))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False) as http:
        yield http, database, other
    database.close()


Api = tuple[TestClient, Database, str]


def create(http: TestClient, name: str, key: str, **headers: str) -> Any:
    body = {"name": name, "source": SOURCE}
    return http.post("/v1/datasets", json=body, headers={"Idempotency-Key": key, **headers})


def test_a_repeated_request_gets_the_same_answer(api: Api) -> None:
    http, _, _ = api
    first, again = create(http, "d", "one"), create(http, "d", "one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(http.get("/v1/datasets/d/versions").json()["versions"]) == 1


def test_concurrent_repetitions_create_one_resource(api: Api) -> None:
    http, _, _ = api
    start = Barrier(8)

    def send(_: int) -> Any:
        start.wait()
        return create(http, "d", "at once")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(send, range(8)))
    assert {answer.status_code for answer in found} == {201}
    assert len({answer.text for answer in found}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in found) == 7
    assert len(http.get("/v1/datasets/d/versions").json()["versions"]) == 1


def test_a_key_belongs_to_one_request(api: Api) -> None:
    http, _, _ = api
    create(http, "d", "mine")
    assert fault(create(http, "e", "mine")) == ("idempotency-key", "idempotency_key_reused")
    retried = http.post("/v1/api-keys", json={"name": "d"}, headers={"Idempotency-Key": "mine"})
    assert fault(retried) == ("idempotency-key", "idempotency_key_reused")
    problem(http.get("/v1/datasets/e"), 404)


def test_each_project_has_its_own_keys(api: Api) -> None:
    http, _, other = api
    create(http, "d", "shared")
    answer = create(http, "d", "shared", Authorization=f"Bearer {other}")
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


def test_a_secret_is_shown_once_and_not_stored(api: Api) -> None:
    http, database, _ = api
    first, again = (
        http.post("/v1/api-keys", json={"name": "k"}, headers={"Idempotency-Key": "secret"}).json() for _ in range(2)
    )
    assert first["token"].startswith("sns_")
    assert again == first | {"token": None}
    with database.reader() as session:
        assert first["token"] not in str(session.scalars(select(IdempotencyKey.answer)).all())


def test_a_failed_request_is_done_again(api: Api) -> None:
    http, _, _ = api
    body = {"name": "d", "source": {"upload": "upl_none"}}
    problem(http.post("/v1/datasets", json=body, headers={"Idempotency-Key": "failed"}), 404)
    assert create(http, "d", "failed").status_code == 201


def test_an_upload_is_stored_once(api: Api) -> None:
    http, database, _ = api
    content = packed(x=np.arange(3.0))
    made = {http.post("/v1/uploads", content=content, headers={"Idempotency-Key": "u"}).json()["id"] for _ in range(2)}
    assert len(made) == 1
    with database.reader() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 1
    other = http.post("/v1/uploads", content=packed(x=np.arange(4.0)), headers={"Idempotency-Key": "u"})
    assert fault(other) == ("idempotency-key", "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_an_invalid_key_is_refused(api: Api, key: str) -> None:
    assert fault(create(api[0], "d", key))[0].lower() == "idempotency-key"


def test_answers_are_deleted_after_a_day(api: Api) -> None:
    http, database, _ = api
    create(http, "d", "old")
    create(http, "d", "young")
    with database.writer.begin() as session:
        old = update(IdempotencyKey).where(IdempotencyKey.key == "old")
        session.execute(old.values(created_at=now(-idempotent_answers.KEPT_SECONDS - 1)))
        idempotent_answers.delete_old(session)
    assert create(http, "d", "old").json()["version"] == 3
    assert create(http, "d", "young").json()["version"] == 2


@contextmanager
def api_process(database_url: str, home: Path) -> Iterator[str]:
    """An API in a separate process; yields its URL."""
    port = servers.free_port()
    settings = {"HOME": str(home), "DATABASE": database_url, "SECRET_KEY": "k" * 32, "PORT": str(port)}
    environment = {**os.environ, **{f"SENSORIUM_{name}": value for name, value in settings.items()}}
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "api"], env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_ready(url), 60, "the API")
        yield url
    finally:
        process.terminate()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_two_processes_with_the_same_requests_create_one_resource_each(empty_database_url: str, tmp_path: Path) -> None:
    schema.install(empty_database_url)
    database = Database(empty_database_url)
    with database.writer.begin() as session:
        _, key = access.create_key(session, access.create_project(session, "ours").id, "k")
    start = Barrier(8)
    content = packed(x=np.arange(1000.0))

    def send(url: str) -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "upload"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            start.wait()
            uploaded = http.post("/v1/uploads", content=content)
            assert uploaded.status_code == 201, uploaded.text
            body = {"name": "d", "source": {"upload": uploaded.json()["id"]}}
            made = http.post("/v1/datasets", json=body, headers={"Idempotency-Key": "dataset"})
        return [uploaded, made]

    with ExitStack() as stack:
        urls = [stack.enter_context(api_process(empty_database_url, tmp_path)) for _ in range(2)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(send, urls * 4))
    for answers_of_one in zip(*found, strict=True):
        assert {answer.status_code for answer in answers_of_one} == {201}
        assert len({answer.text for answer in answers_of_one}) == 1
        assert len({answer.headers["location"] for answer in answers_of_one}) == 1
        assert sum("idempotent-replayed" in answer.headers for answer in answers_of_one) == 7
    with database.reader() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 1
        actions = session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
    assert actions == ["create_upload", "create_dataset"]
    database.close()


def test_runs_and_retries_are_queued_once_and_announced_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(service, "pictures", **pictures())
    woken: list[str] = []
    monkeypatch.setattr(broker, "wake", lambda messages, queue, job_id: woken.append(queue))
    body = {"dataset": {"name": "pictures"}, "model": "m"}
    first, again = (service.http.post("/v1/runs", json=body, headers={"Idempotency-Key": "run"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json(), again.headers["location"]) == (first.json(), first.headers["location"])
    assert woken == ["train"]
    run = first.json()["id"]
    service.http.post(f"/v1/runs/{run}/cancel")
    retried = [service.http.post(f"/v1/runs/{run}/retry", headers={"Idempotency-Key": "retry"}) for _ in range(2)]
    assert [answer.status_code for answer in retried] == [201, 201]
    assert retried[0].json() == retried[1].json()
    assert retried[0].json()["id"] != run
    assert woken == ["train", "train"]
    assert len(service.http.get("/v1/runs").json()["runs"]) == 2
    other = queue_run(service, "pictures", "m")["id"]
    elsewhere = service.http.post(f"/v1/runs/{other}/retry", headers={"Idempotency-Key": "retry"})
    assert fault(elsewhere) == ("idempotency-key", "idempotency_key_reused")


def test_a_project_is_created_once_and_its_token_shown_once(api: Api) -> None:
    http, database, _ = api
    with database.writer.begin() as session:
        session.execute(update(Project).values(operates=True))
    first, again = (http.post("/v1/projects", json={"name": "p"}, headers={"Idempotency-Key": "p"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json() | {"token": None}
    assert first.json()["token"].startswith("sns_")


def test_an_upload_under_a_key_of_another_request_leaves_no_file(api: Api, tmp_path: Path) -> None:
    http, _, _ = api

    def kept() -> set[str]:
        return {path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}

    http.post("/v1/uploads", content=packed(x=np.arange(3.0)), headers={"Idempotency-Key": "u"})
    before = kept()
    other = http.post("/v1/uploads", content=packed(x=np.arange(9.0)), headers={"Idempotency-Key": "u"})
    assert fault(other) == ("idempotency-key", "idempotency_key_reused")
    assert kept() == before
    assert len(before) == 1


def test_an_upload_that_used_up_the_quota_is_answered_again(api: Api) -> None:
    http, database, _ = api
    content = packed(x=np.random.default_rng(0).random(1000))
    with database.writer.begin() as session:
        session.execute(update(Project).values(max_stored_bytes=len(content)))
    first, again = (http.post("/v1/uploads", content=content, headers={"Idempotency-Key": "u"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    problem(http.post("/v1/uploads", content=content), 507, "quota_exceeded")


def test_every_create_operation_accepts_an_idempotency_key(api: Api) -> None:
    """All POST operations that answer 201, and no others: PUT is idempotent."""
    operations = [
        operation
        for methods in api[0].get("/openapi.json").json()["paths"].values()
        for method, operation in methods.items()
        if method != "put"
    ]
    taking = {
        operation["operationId"]
        for operation in operations
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
    }
    assert taking == {operation["operationId"] for operation in operations if "201" in operation["responses"]}
    assert {"create_upload", "create_dataset", "create_run", "retry_run", "create_api_key", "create_project"} <= taking
