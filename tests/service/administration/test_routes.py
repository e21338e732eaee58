"""Keys and projects over HTTP and from the command line."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx
import pytest

from service.access.tables import Project
from service.shared.database import Database
from tests import servers
from tests.conftest import Service, wait_until
from tests.service.steps import fault, problem


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_key_is_shown_once_and_recognized_by_its_prefix(service: Service) -> None:
    made = service.http.post("/v1/api-keys", json={"name": "robot", "scopes": ["read", "infer"]})
    assert made.status_code == 201
    body = made.json()
    assert body["token"].startswith(f"sns_{body['prefix']}_")
    found = service.http.get(made.headers["location"]).json()
    assert found == {name: value for name, value in body.items() if name != "token"}
    assert body["token"] not in service.http.get("/v1/api-keys").text


def test_a_key_that_expires_is_refused_afterwards(service: Service) -> None:
    token = service.http.post("/v1/api-keys", json={"name": "short", "expires_in_seconds": 1}).json()["token"]
    assert service.http.get("/v1/runs", headers=bearer(token)).status_code == 200
    wait_until(lambda: service.http.get("/v1/runs", headers=bearer(token)).status_code == 401, 5)
    problem(service.http.get("/v1/runs", headers=bearer(token)), 401, "invalid_api_key")


def test_a_revoked_key_is_refused_at_once(service: Service) -> None:
    made = service.http.post("/v1/api-keys", json={"name": "gone"}).json()
    assert service.http.get("/v1/runs", headers=bearer(made["token"])).status_code == 200
    assert service.http.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    problem(service.http.get("/v1/runs", headers=bearer(made["token"])), 401, "invalid_api_key")
    assert service.http.get(f"/v1/api-keys/{made['id']}").json()["revoked_at"] is not None


def test_a_key_is_accepted_as_the_password_of_basic(service: Service) -> None:
    given = base64.b64encode(f"anybody:{service.key}".encode()).decode()
    answer = service.http.get("/v1/runs", headers={"Authorization": f"Basic {given}"})
    assert answer.status_code == 200
    wrong = base64.b64encode(b"anybody:sns_1_2").decode()
    problem(service.http.get("/v1/runs", headers={"Authorization": f"Basic {wrong}"}), 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"name": "k", "scopes": ["everything"]}, "/scopes/0"),
        ({"name": "k", "scopes": []}, "/scopes"),
        ({"name": "k", "expires_in_seconds": 0}, "/expires_in_seconds"),
        ({"name": ""}, "/name"),
        ({}, "/name"),
    ],
)
def test_an_invalid_key_request_is_refused(service: Service, body: dict[str, object], place: str) -> None:
    assert fault(service.http.post("/v1/api-keys", json=body))[0] == place


def test_only_an_operator_project_creates_projects(service: Service) -> None:
    problem(service.http.post("/v1/projects", json={"name": "new"}), 403, "operator_required")
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        session.get_one(Project, service.project_id).operates = True
    asked = {"name": "new", "quotas": {"queued_runs": 3}}
    answers: list[httpx.Response] = []

    def made_one() -> bool:
        answers.append(service.http.post("/v1/projects", json=asked))
        return answers[-1].status_code == 201

    wait_until(made_one, what="the key's new rights are known")
    made = answers[-1].json()
    assert made["quotas"]["queued_runs"] == 3
    assert service.http.get("/v1/runs", headers=bearer(made["token"])).json()["runs"] == []
    assert answers[-1].headers["location"] == f"/v1/projects/{made['id']}"
    assert "new" in [project["name"] for project in service.http.get("/v1/projects").json()["projects"]]
    problem(service.http.post("/v1/projects", json={"name": "new"}), 409, "project_exists")
    with database.writer.begin() as session:
        session.get_one(Project, service.project_id).operates = False
    database.close()


@contextmanager
def another_api(service: Service) -> Iterator[str]:
    """A second API process over the same database."""
    port = servers.free_port()
    environment = {**os.environ, "SENSORIUM_HOME": str(service.settings.home), "SENSORIUM_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "api"], env=environment, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), 30, "the second API")
        yield url
    finally:
        process.terminate()
        process.wait(300)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def test_a_revoked_key_is_refused_by_other_processes_within_two_seconds(service: Service) -> None:
    made = service.http.post("/v1/api-keys", json={"name": "elsewhere"}).json()
    with another_api(service) as url, httpx.Client(base_url=url, headers=bearer(made["token"])) as http:
        assert http.get("/v1/runs").status_code == 200
        assert http.get("/v1/runs").status_code == 200
        service.http.delete(f"/v1/api-keys/{made['id']}")
        wait_until(lambda: http.get("/v1/runs").status_code == 401, 30, "refused")


def command(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SENSORIUM_HOME": str(service.settings.home)}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_projects_and_keys_are_made_listed_and_revoked_on_the_command_line(service: Service) -> None:
    token = command(service, "project", "create", "shell").stdout.strip()
    assert service.http.get("/v1/runs", headers=bearer(token)).status_code == 200
    reader = command(service, "key", "create", "shell", "reader", "--scope", "read").stdout.strip()
    problem(service.http.post("/v1/api-keys", json={"name": "k"}, headers=bearer(reader)), 403, "insufficient_scope")
    (line,) = [line for line in command(service, "key", "list", "shell").stdout.splitlines() if "reader" in line]
    assert command(service, "key", "revoke", "shell", line.split()[0]).returncode == 0
    wait_until(lambda: service.http.get("/v1/runs", headers=bearer(reader)).status_code == 401, 5)
    assert "project 'nobody' does not exist" in command(service, "key", "list", "nobody").stderr
    assert command(service, "project", "create", "shell").returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.1", False)])  # noqa: S104 it is what is warned of
def test_a_public_address_gives_a_warning(service: Service, host: str, warns: bool) -> None:
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(service.settings.home),
        "SENSORIUM_HOST": host,
        "SENSORIUM_PORT": str(servers.free_port()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "api"], env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: _answers(f"http://127.0.0.1:{environment['SENSORIUM_PORT']}"), 30, "the API")
    process.terminate()
    _, log = process.communicate(timeout=300)
    assert ("public_address_bound" in log) == warns


def _key(service: Service, scopes: list[str], expires_in_seconds: float | None = None) -> dict[str, str]:
    """The header of a new key."""
    asked = {"name": "k", "scopes": scopes, "expires_in_seconds": expires_in_seconds}
    made = service.http.post("/v1/api-keys", json=asked)
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['token']}"}


def test_a_key_grants_only_scopes_that_it_has(service: Service) -> None:
    administrator = _key(service, ["admin", "read"])
    for scopes, beyond in ((["write"], "write"), (["read", "write", "infer"], "infer write"), (None, "infer write")):
        asked = {"name": "more"} if scopes is None else {"name": "more", "scopes": scopes}
        answer = service.http.post("/v1/api-keys", json=asked, headers=administrator)
        problem(answer, 403, "insufficient_scope")
        assert f'scope="{beyond}"' in answer.headers["www-authenticate"]
    for scopes in (["read"], ["admin"], ["admin", "read"]):
        made = service.http.post("/v1/api-keys", json={"name": "same", "scopes": scopes}, headers=administrator)
        assert (made.status_code, made.json()["scopes"]) == (201, scopes)
    assert not [key for key in service.http.get("/v1/api-keys").json()["api_keys"] if key["name"] == "more"]


def test_a_key_with_only_the_scope_admin_administers(service: Service) -> None:
    administrator = _key(service, ["admin"])
    spare = service.http.post("/v1/api-keys", json={"name": "spare", "scopes": ["read"]}).json()["id"]
    assert service.http.get("/v1/api-keys", headers=administrator).status_code == 200
    assert service.http.get("/v1/audit-events", headers=administrator).status_code == 200
    assert service.http.delete(f"/v1/api-keys/{spare}", headers=administrator).status_code == 204
    problem(service.http.get("/v1/runs", headers=administrator), 403, "insufficient_scope")


def test_a_key_creates_no_key_that_expires_later(service: Service) -> None:
    brief = _key(service, ["admin", "read"], 3600)
    for seconds in (None, 7200):
        asked = {"name": "k", "scopes": ["read"], "expires_in_seconds": seconds}
        problem(service.http.post("/v1/api-keys", json=asked, headers=brief), 403, "key_outlives_its_maker")
    asked = {"name": "k", "scopes": ["read"], "expires_in_seconds": 1800}
    assert service.http.post("/v1/api-keys", json=asked, headers=brief).status_code == 201
