"""A creating request that is sent again makes nothing twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import func, select, update

from service import migrate
from service.access import answers
from service.access import operations as access
from service.app import create_app
from service.shared.database import Database, now
from service.shared.settings import Settings
from service.shared.tables import IdempotencyKey, Upload
from tests.service.files import packed
from tests.service.steps import fault, problem

SOURCE = {"generator": {"name": "spirals", "rows": 4, "steps": 3}}


@pytest.fixture
def api(empty_database_url: str, tmp_path: Path) -> Iterator[tuple[TestClient, Database, str]]:
    """A service on each database, and the key of another project."""
    migrate.upgrade(empty_database_url)
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


def test_the_same_request_again_is_answered_the_same(api: Api) -> None:
    http, _, _ = api
    first, again = create(http, "d", "one"), create(http, "d", "one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(http.get("/v1/datasets/d/versions").json()["versions"]) == 1


def test_many_at_the_same_moment_make_one(api: Api) -> None:
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


def test_other_projects_have_keys_of_their_own(api: Api) -> None:
    http, _, other = api
    create(http, "d", "shared")
    answer = create(http, "d", "shared", Authorization=f"Bearer {other}")
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


def test_a_secret_is_shown_once_and_kept_nowhere(api: Api) -> None:
    http, database, _ = api
    first, again = (
        http.post("/v1/api-keys", json={"name": "k"}, headers={"Idempotency-Key": "secret"}).json() for _ in range(2)
    )
    assert first["token"].startswith("sns_")
    assert again == first | {"token": None}
    with database.reader() as session:
        assert first["token"] not in str(session.scalars(select(IdempotencyKey.answer)).all())


def test_what_failed_is_tried_again(api: Api) -> None:
    http, _, _ = api
    body = {"name": "d", "source": {"upload": "upl_none"}}
    problem(http.post("/v1/datasets", json=body, headers={"Idempotency-Key": "failed"}), 404)
    assert create(http, "d", "failed").status_code == 201


def test_an_upload_is_kept_once(api: Api) -> None:
    http, database, _ = api
    content = packed(x=np.arange(3.0))
    made = {http.post("/v1/uploads", content=content, headers={"Idempotency-Key": "u"}).json()["id"] for _ in range(2)}
    assert len(made) == 1
    with database.reader() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 1
    other = http.post("/v1/uploads", content=packed(x=np.arange(4.0)), headers={"Idempotency-Key": "u"})
    assert fault(other) == ("idempotency-key", "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    assert fault(create(api[0], "d", key))[0].lower() == "idempotency-key"


def test_answers_are_forgotten_after_a_day(api: Api) -> None:
    http, database, _ = api
    create(http, "d", "old")
    create(http, "d", "young")
    with database.writer.begin() as session:
        old = update(IdempotencyKey).where(IdempotencyKey.key == "old")
        session.execute(old.values(created_at=now(-answers.KEPT_SECONDS - 1)))
        answers.forget_old(session)
    assert create(http, "d", "old").json()["version"] == 3
    assert create(http, "d", "young").json()["version"] == 2
