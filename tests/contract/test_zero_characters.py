"""A zero character is refused in every text: PostgreSQL cannot store it, although SQLite can."""

import base64
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from service.shared.database import Database
from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.contract.conftest import Document
from tests.service.steps import fault, problem

BODIES: dict[str, tuple[str, Any, str]] = {
    "a name": ("/v1/datasets", {"name": "a\0", "source": {"upload": "u"}}, "/name"),
    "an id": ("/v1/datasets", {"name": "a", "source": {"upload": "u\0"}}, "/source/upload"),
    "a description": ("/v1/runs", {"dataset": {"name": "d"}, "model": "m", "description": "\0"}, "/description"),
    "a tag": ("/v1/runs", {"dataset": {"name": "d"}, "model": "m", "tags": ["a", "b\0"]}, "/tags/1"),
    "what a key is for": ("/v1/api-keys", {"name": "\0"}, "/name"),
    "units": (
        "/v1/datasets",
        {"name": "a", "source": {"upload": "u"}, "schema": {"modalities": {"x": {"units": "m\0"}}}},
        "/schema/modalities/x/units",
    ),
    "options": (
        "/v1/runs",
        {"dataset": {"name": "d"}, "model": "m", "architecture": {"network": {"name": "n", "options": {"o": ["\0"]}}}},
        "/architecture/network/options/o/0",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service over each kind of database."""
    home, secret = tmp_path_factory.mktemp("zero"), SecretStr("s" * 32)
    if request.param == "sqlite":
        with running(Settings(home=home)) as service:
            yield service
        return
    server = request.getfixturevalue("postgresql_server")
    name = f"zero_{time.monotonic_ns()}"
    database = Database(server)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    database.close()
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    with running(Settings(home=home, database=url, secret_key=secret)) as service:
        yield service


@pytest.mark.parametrize("what", BODIES)
def test_in_a_body(either: Service, what: str) -> None:
    path, body, place = BODIES[what]
    assert fault(either.http.post(path, json=body)) == (place, "zero_character")


def test_in_a_key_of_a_body(either: Service) -> None:
    answer = either.http.post("/v1/runs", json={"dataset": {"name": "d"}, "model": "m", "training": {"a\0": 1}})
    assert (
        problem(answer, 422)["detail"] == "a key of /training has a zero character (U+0000), expected text without one"
    )


def test_an_escaped_zero_character_is_ordinary_text(either: Service) -> None:
    made = either.http.post("/v1/api-keys", json={"name": "\\u0000"})
    assert (made.status_code, made.json()["name"]) == (201, "\\u0000")


def _with_zeros(document: Document) -> Iterator[tuple[str, str]]:
    """Every call with a zero character in one part of its path or in one parameter."""
    for path, operations in document["paths"].items():
        if path.startswith("/errors"):  # answered from a table, without the database: 404
            continue
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                place, whole = "{" + parameter["name"] + "}", path
                if parameter["in"] == "path":
                    whole = path.replace(place, "a%00")
                whole = re.sub(r"\{[a-z_]+\}", "x", re.sub(r"\{(version|step)\}", "1", whole))
                if parameter["in"] == "query":
                    whole += f"?{parameter['name']}=a%00"
                if "%00" in whole:
                    yield method, whole


def test_in_any_part_of_a_path_and_in_any_parameter(either: Service, document: Document) -> None:
    asked = list(_with_zeros(document))
    assert len(asked) > 100
    for method, path in asked:
        answer = either.http.request(method, path, headers={"content-type": "application/json"}, content=b"{}")
        assert problem(answer, 422)["status"] == 422, (method, path)


def test_in_a_key(either: Service) -> None:
    for token in ("sns_\0_x", "sns_000000000000_\0", "\0"):
        given = base64.b64encode(f":{token}".encode()).decode()
        answer: Any = either.http.get("/v1/runs", headers={"Authorization": f"Basic {given}"})
        assert problem(answer, 401)["code"] == "invalid_api_key"
