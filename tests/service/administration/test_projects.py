"""Projects over HTTP and on the command line: whoami, changes, deletion, restoration, purge."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service.access import deletion
from service.access import operations as access
from service.access.quotas import Quotas
from service.access.scopes import SCOPES
from service.access.tables import Project
from service.app import create_app
from service.shared.database import Database, now
from tests.conftest import Service, wait_until
from tests.service.administration.test_routes import another_api, bearer, command
from tests.service.files import packed
from tests.service.steps import fault, pictures, problem, queue_dataset


@dataclass(frozen=True)
class Tenant:
    """A project and a key with all scopes."""

    id: str
    key: dict[str, str]


def tenant(service: Service, name: str, operates: bool = False, own: Quotas = Quotas()) -> Tenant:  # noqa: B008 immutable
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        project = access.create_project(session, name, own, operates).id
        _, token = access.create_key(session, project, "k")
    database.close()
    return Tenant(project, bearer(token))


def deleted_long_ago(service: Service, project_id: str) -> None:
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        long_ago = now(-deletion.QUIET_SECONDS - 1)
        session.execute(update(Project).where(Project.id == project_id).values(deleted_at=long_ago))
    database.close()


@pytest.fixture(scope="module")
def operator(service: Service) -> Tenant:
    return tenant(service, "operators", operates=True)


def call(service: Service, who: Tenant, method: str, path: str, **fields: Any) -> httpx.Response:
    answer: httpx.Response = service.http.request(method, path, headers=who.key, **fields)
    return answer


def test_whoami_tells_key_project_quotas_and_use(service: Service) -> None:
    who = tenant(service, "curious", own=Quotas(queued_runs=7))
    stored = packed(**pictures())
    service.http.post("/v1/uploads", content=stored, headers=who.key)
    app = create_app(service.settings.model_copy(update={"project_request_rows": 9, "project_queued_runs": 1}))
    with TestClient(app, headers=who.key) as http:
        body = http.get("/v1/whoami").json()
    assert (body["api_key"]["name"], body["api_key"]["scopes"]) == ("k", sorted(SCOPES))
    assert body["api_key"]["expires_at"] is None
    assert body["project"] == {"id": who.id, "name": "curious", "operates": False}
    assert (body["quotas"]["queued_runs"], body["quotas"]["request_rows"]) == (7, 9)
    assert body["quotas"]["stored_bytes"] is None
    assert body["use"] == {"stored_bytes": len(stored), "queued_runs": 0, "running_runs": 0}


def test_whoami_counts_queued_runs(service: Service) -> None:
    queue_dataset(service, "counted", **pictures())
    service.work("data")
    before = service.http.get("/v1/whoami").json()["use"]["queued_runs"]
    service.http.post("/v1/runs", json={"dataset": {"name": "counted"}, "model": "counted"})
    assert service.http.get("/v1/whoami").json()["use"]["queued_runs"] == before + 1


@pytest.mark.parametrize("scope", SCOPES)
def test_whoami_needs_no_scope(service: Service, scope: str) -> None:
    token = service.http.post("/v1/api-keys", json={"name": scope, "scopes": [scope]}).json()["token"]
    body = service.http.get("/v1/whoami", headers=bearer(token)).json()
    assert (body["api_key"]["scopes"], body["api_key"]["prefix"]) == ([scope], token.split("_")[1])


def test_an_administrator_renames_its_project_and_sets_no_quotas(service: Service) -> None:
    who = tenant(service, "before", own=Quotas(queued_runs=1))
    path = f"/v1/projects/{who.id}"
    changed = call(service, who, "PATCH", path, json={"name": "after"})
    assert changed.json()["name"] == call(service, who, "GET", path).json()["name"] == "after"
    problem(call(service, who, "PATCH", path, json={"name": "operators-too", "quotas": None}), 403, "operator_required")
    problem(call(service, who, "PATCH", path, json={"quotas": {"queued_runs": 9}}), 403, "operator_required")
    assert call(service, who, "GET", path).json() == changed.json()
    other = tenant(service, "taken")
    problem(call(service, who, "PATCH", path, json={"name": "taken"}), 409, "project_exists")
    for method in ("GET", "PATCH"):
        json = {"name": "mine"} if method == "PATCH" else None
        problem(call(service, who, method, f"/v1/projects/{other.id}", json=json), 404, "project_not_found")


def test_an_operator_sets_quotas_and_null_returns_to_the_default(service: Service, operator: Tenant) -> None:
    who = tenant(service, "limited", own=Quotas(queued_runs=1, stored_bytes=10**6))
    path = f"/v1/projects/{who.id}"
    assert call(service, who, "GET", "/v1/whoami").json()["quotas"]["request_rows"] is None
    changed = call(service, operator, "PATCH", path, json={"quotas": {"queued_runs": None, "request_rows": 5}}).json()
    assert changed["quotas"] == {
        "stored_bytes": 10**6,
        "queued_runs": None,
        "running_runs": None,
        "request_rows": 5,
        "requests_per_minute": None,
    }
    assert call(service, who, "GET", "/v1/whoami").json()["quotas"]["request_rows"] == 5  # known at once
    assert set(call(service, operator, "PATCH", path, json={"quotas": None}).json()["quotas"].values()) == {None}
    assert call(service, operator, "PATCH", path, json={"quotas": {}}).json()["name"] == "limited"
    trail = call(service, operator, "GET", "/v1/audit-events", params={"project_id": who.id}).json()["audit_events"]
    assert [event["action"] for event in trail] == ["change_project"] * 3


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"name": ""}, "/name"),
        ({"name": "with space"}, "/name"),
        ({"operates": True}, "/operates"),
        ({"quotas": {"queued_runs": -1}}, "/quotas/queued_runs"),
        ({"quotas": {"request_rows": 0}}, "/quotas/request_rows"),
        ({"quotas": {"tea": 1}}, "/quotas/tea"),
    ],
)
def test_an_invalid_change_is_refused(service: Service, operator: Tenant, body: dict[str, Any], place: str) -> None:
    answer = call(service, operator, "PATCH", f"/v1/projects/{operator.id}", json=body)
    assert fault(answer)[0] == place


def test_a_deleted_project_is_refused_hidden_and_restored(service: Service, operator: Tenant) -> None:
    who = tenant(service, "leaving")
    path = f"/v1/projects/{who.id}"
    assert call(service, who, "GET", "/v1/runs").status_code == 200
    problem(call(service, who, "DELETE", path), 403, "operator_required")
    problem(call(service, who, "POST", f"{path}/restore"), 403, "operator_required")
    problem(call(service, operator, "DELETE", f"/v1/projects/{operator.id}"), 409, "own_project")
    assert call(service, operator, "DELETE", path).status_code == 204
    problem(call(service, who, "GET", "/v1/runs"), 401, "invalid_api_key")
    assert who.id not in call(service, operator, "GET", "/v1/projects?page_size=200").text
    (listed,) = call(service, operator, "GET", "/v1/projects?deleted=true").json()["projects"]
    assert listed == call(service, operator, "GET", path).json()
    assert listed["deleted_at"] is not None
    problem(call(service, operator, "DELETE", f"{path}?purge=true"), 409, "project_in_use")
    restored = call(service, operator, "POST", f"{path}/restore").json()
    assert restored == {**listed, "deleted_at": None}
    assert call(service, who, "GET", "/v1/runs").status_code == 200
    problem(call(service, operator, "DELETE", f"{path}?purge=true"), 409, "project_not_deleted")


def test_keys_of_a_deleted_project_are_refused_by_other_processes_within_two_seconds(
    service: Service, operator: Tenant
) -> None:
    who = tenant(service, "elsewhere")
    with another_api(service) as url, httpx.Client(base_url=url, headers=who.key) as http:
        assert http.get("/v1/runs").status_code == 200
        assert call(service, operator, "DELETE", f"/v1/projects/{who.id}").status_code == 204
        wait_until(lambda: http.get("/v1/runs").status_code == 401, 2, "refused")


def test_a_purged_project_is_forgotten_with_its_files(service: Service, operator: Tenant) -> None:
    who = tenant(service, "forgotten")
    made = service.http.post("/v1/uploads", content=packed(**pictures()), headers=who.key).json()
    assert list(service.settings.artifacts.glob(f"{who.id}/{made['sha256']}"))
    path = f"/v1/projects/{who.id}"
    assert call(service, operator, "DELETE", path).status_code == 204
    deleted_long_ago(service, who.id)
    for _ in range(2):  # it can be repeated
        assert call(service, operator, "DELETE", f"{path}?purge=true").status_code == 204
    for method, place in (("GET", path), ("DELETE", path), ("POST", f"{path}/restore")):
        problem(call(service, operator, method, place), 404, "project_not_found")
    wait_until(lambda: not list(service.settings.artifacts.glob(f"{who.id}/*")), what="the files are swept")
    assert call(service, operator, "POST", "/v1/projects", json={"name": "forgotten"}).status_code == 201


@pytest.mark.slow
def test_projects_are_listed_changed_deleted_and_restored_on_the_command_line(service: Service) -> None:
    who = tenant(service, "shell-project")
    done = command(service, "project", "set", "shell-project", "--quota", "queued_runs=3", "--name", "renamed")
    assert (done.returncode, '"queued_runs":3' in done.stdout) == (0, True), done.stderr
    assert "queued_runs=3" in command(service, "project", "list").stdout
    assert command(service, "project", "set", "renamed", "--quota", "queued_runs=default").returncode == 0
    assert "quotas.tea" in command(service, "project", "set", "renamed", "--quota", "tea=1").stderr
    assert command(service, "project", "delete", "renamed").returncode == 0
    assert "less than 10 s ago" in command(service, "project", "delete", "renamed", "--purge").stderr
    _refused(lambda: call(service, who, "GET", "/v1/runs"))
    assert "is deleted" in command(service, "key", "create", "renamed", "k").stderr
    assert who.id in command(service, "project", "list", "--deleted").stdout
    assert command(service, "project", "restore", "renamed").returncode == 0
    assert call(service, who, "GET", "/v1/runs").status_code == 200
    assert command(service, "project", "delete", "renamed").returncode == 0
    deleted_long_ago(service, who.id)
    assert command(service, "project", "delete", "renamed", "--purge").returncode == 0
    assert "does not exist" in command(service, "project", "restore", "renamed").stderr


def _refused(ask: Callable[[], httpx.Response]) -> None:
    wait_until(lambda: ask().status_code == 401, 2, "the key is refused")
