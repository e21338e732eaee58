"""The audit log: each change is recorded with its key in the same transaction, and cannot be changed."""

import subprocess
import sys

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from service.access import audit
from service.access import operations as access
from service.access.audit import Action, Filters
from service.shared.database import Database
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id
from tests.conftest import Service
from tests.service.files import packed
from tests.service.steps import dataset, pictures, problem, queue_dataset, queue_run, upload


def events(service: Service, **query: object) -> list[dict[str, object]]:
    answer = service.http.get("/v1/audit-events", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["audit_events"]
    return found


def test_a_change_is_recorded_with_key_and_request(service: Service) -> None:
    made = service.http.post("/v1/api-keys", json={"name": "new"}, headers={"X-Request-ID": "req-42"}).json()
    (event, *_) = events(service)
    own = next(key["id"] for key in service.http.get("/v1/api-keys").json()["api_keys"] if key["name"] == "test")
    assert (event["action"], event["resource"], event["made"]) == ("create_api_key", "/v1/api-keys", [made["id"]])
    assert (event["key_id"], event["request_id"], event["client"]) == (own, "req-42", "testclient")


def test_reads_and_refused_requests_are_not_recorded(service: Service) -> None:
    before = len(events(service, page_size=200))
    service.http.get("/v1/runs")
    problem(service.http.post("/v1/api-keys", json={"name": ""}), 422)
    problem(service.http.delete("/v1/api-keys/key_none"), 404)
    assert len(events(service, page_size=200)) == before


def test_events_are_paged_and_filtered(service: Service) -> None:
    made = [service.http.post("/v1/api-keys", json={"name": f"k{n}"}).json()["id"] for n in range(3)]
    service.http.delete(f"/v1/api-keys/{made[0]}")
    assert [event["action"] for event in events(service, page_size=2)] == ["revoke_api_key", "create_api_key"]
    page = service.http.get("/v1/audit-events?page_size=1&action=create_api_key").json()
    rest = service.http.get(
        "/v1/audit-events", params={"action": "create_api_key", "page_token": page["next_page_token"]}
    )
    assert [event["made"] for event in [*page["audit_events"], *rest.json()["audit_events"]]][:3] == [
        [key] for key in reversed(made)
    ]
    by_one = []
    token: dict[str, str] = {}
    while True:
        page = service.http.get("/v1/audit-events", params={"page_size": "1", **token}).json()
        by_one += page["audit_events"]
        if page["next_page_token"] is None:
            break
        token = {"page_token": page["next_page_token"]}
    assert by_one == events(service, page_size=200)
    middle = by_one[1]["created_at"]
    assert [event["id"] for event in events(service, created_after=middle)][-1] == by_one[1]["id"]
    assert by_one[1]["id"] not in [event["id"] for event in events(service, created_before=middle)]
    assert events(service, key_id="key_none") == []
    assert events(service, created_after="2999-01-01T00:00:00Z") == []
    assert len(events(service, created_before="2999-01-01T00:00:00Z")) > 3


def test_a_filter_without_a_time_zone_is_refused(service: Service) -> None:
    assert problem(service.http.get("/v1/audit-events?created_after=2026-01-01T00:00:00"), 422)


def test_the_command_line_is_recorded_too(service: Service) -> None:
    command = [sys.executable, "-m", "service.cli", "key", "create", "test", "from the shell"]
    environment = {"SENSORIUM_HOME": str(service.settings.home), "PATH": ""}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    event = events(service)[0]
    assert (event["action"], event["key_id"], event["client"]) == ("create_api_key", None, "command line")


@pytest.mark.parametrize("change", ["UPDATE audit_events SET action = 'nothing'", "DELETE FROM audit_events"])
def test_the_database_refuses_changes_of_audit_events(database: Database, project_id: str, change: str) -> None:
    with database.writer.begin() as session:
        audit.record(session, Action(project_id, None, "create_run", "/v1/runs"))
    with pytest.raises(DBAPIError, match="never changed"), database.writer.begin() as session:
        session.execute(text(change))
    with database.reader() as session:
        (kept,) = audit.list_events(session, project_id, Filters(), None, 10)
    assert kept.action == "create_run"


def test_a_rolled_back_change_is_not_recorded(database: Database, project_id: str) -> None:
    audit.attach(database.writer)

    def act(fails: bool) -> None:
        audit.acting.set(Action(project_id, "key_1", "create_run", "/v1/runs"))
        with database.writer.begin() as session:
            session.execute(text("SELECT 1"))
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act(fails=True)
    act(fails=False)
    with database.reader() as session:
        assert len(audit.list_events(session, project_id, Filters(), None, 10)) == 1


def test_all_created_resources_of_a_request_are_recorded(service: Service) -> None:
    content = packed(a=np.random.default_rng(1).random(7))
    made = upload(service, content)
    (uploaded,) = events(service, page_size=1)
    assert made in uploaded["made"]  # type: ignore[operator]
    assert sorted(str(name)[:3] for name in uploaded["made"]) == ["art", "upl"]  # type: ignore[attr-defined]
    queue_dataset(service, "named", a=np.zeros(3))
    (queued,) = events(service, page_size=1)
    assert sorted(str(name)[:3] for name in queued["made"]) == ["dat", "dsv", "job"]  # type: ignore[attr-defined]


def test_a_repeated_response_is_not_recorded_again(service: Service) -> None:
    for _ in range(3):
        service.http.post("/v1/api-keys", json={"name": "once"}, headers={"Idempotency-Key": "once"})
    before, latest = events(service, page_size=2)[::-1]
    assert latest["action"] == "create_api_key"
    assert before["made"] != latest["made"] != []


def test_the_sweep_after_a_deletion_is_not_recorded(service: Service) -> None:
    dataset(service, "swept", **pictures())
    run = queue_run(service, "swept", "m")["id"]
    service.http.post(f"/v1/runs/{run}/cancel")
    with service.worker.database.writer.begin() as session:
        released = Artifact(id=new_id("art"), project_id=service.project_id, sha256="0" * 64, size_bytes=0)
        released.state = "deleting"
        session.add(released)
    assert service.http.delete(f"/v1/runs/{run}").status_code == 204
    assert [event["resource"] for event in events(service, action="delete_run")] == [f"/v1/runs/{run}"]


def test_a_project_that_key_create_creates_is_recorded(service: Service) -> None:
    command = [sys.executable, "-m", "service.cli", "key", "create", "on the way", "first"]
    environment = {"SENSORIUM_HOME": str(service.settings.home), "PATH": ""}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with service.worker.database.reader() as session:
        project = access.find_project(session, "on the way")
        assert project is not None
        found = audit.list_events(session, project.id, Filters(), None, 10)
    assert [(event.action, event.resource) for event in found] == [
        ("create_api_key", "first"),
        ("create_project", "on the way"),
    ]
    assert found[1].made == [project.id]


def test_only_operator_projects_read_the_log_of_another_project(service: Service) -> None:
    with service.worker.database.writer.begin() as session:
        other = access.create_project(session, "watched").id
        _, theirs = access.create_key(session, other, "theirs")
        operator = access.create_project(session, "watches", operates=True).id
        _, operating = access.create_key(session, operator, "operator")
    with TestClient(service.http.app, headers={"Authorization": f"Bearer {theirs}"}) as http:
        http.post("/v1/api-keys", json={"name": "seen"})
        own = http.get("/v1/audit-events", params={"project_id": other}).json()["audit_events"]
        problem(http.get("/v1/audit-events", params={"project_id": service.project_id}), 404, "project_not_found")
    problem(service.http.get("/v1/audit-events", params={"project_id": other}), 404, "project_not_found")
    with TestClient(service.http.app, headers={"Authorization": f"Bearer {operating}"}) as http:
        found = http.get("/v1/audit-events", params={"project_id": other}).json()["audit_events"]
        assert http.get("/v1/audit-events").json()["audit_events"] == []
    assert [event["action"] for event in found] == ["create_api_key"]
    assert found == own


def test_a_forbidden_change_is_only_in_the_process_log(service: Service) -> None:
    made = service.http.post("/v1/api-keys", json={"name": "reader", "scopes": ["read"]}).json()
    before = events(service)
    with capture_logs() as logged:
        reading = {"Authorization": f"Bearer {made['token']}"}
        problem(service.http.post("/v1/projects", json={"name": "p"}, headers=reading), 403, "insufficient_scope")
        assert service.http.get("/v1/runs", headers=reading).status_code == 200
    refused = [entry for entry in logged if entry["event"] == "change_refused"]
    assert [(entry["key_id"], entry["action"], entry["path"]) for entry in refused] == [
        (made["id"], "create_project", "/v1/projects")
    ]
    assert events(service) == before
