"""What was changed is written down with who did it, in the same transaction, and stays."""

import subprocess
import sys

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.access import audit
from service.access.audit import Action, Filters
from service.shared.database import Database
from tests.conftest import Service
from tests.service.steps import problem


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


def test_reading_and_what_was_refused_leave_no_trace(service: Service) -> None:
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
    assert events(service, key_id="key_none") == []
    assert events(service, since="2999-01-01T00:00:00Z") == []
    assert len(events(service, until="2999-01-01T00:00:00Z")) > 3


def test_a_filter_without_a_time_zone_is_refused(service: Service) -> None:
    assert problem(service.http.get("/v1/audit-events?since=2026-01-01T00:00:00"), 422)


def test_the_command_line_is_recorded_too(service: Service) -> None:
    command = [sys.executable, "-m", "service.cli", "key", "create", "test", "from the shell"]
    environment = {"SENSORIUM_HOME": str(service.settings.home), "PATH": ""}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    event = events(service)[0]
    assert (event["action"], event["key_id"], event["client"]) == ("create_api_key", None, "command line")


@pytest.mark.parametrize("change", ["UPDATE audit_events SET action = 'nothing'", "DELETE FROM audit_events"])
def test_the_database_refuses_to_change_what_was_recorded(database: Database, project_id: str, change: str) -> None:
    with database.writer.begin() as session:
        audit.record(session, Action(project_id, None, "create_run", "/v1/runs"))
    with pytest.raises(DBAPIError, match="never changed"), database.writer.begin() as session:
        session.execute(text(change))
    with database.reader() as session:
        (kept,) = audit.list_events(session, project_id, Filters(), None, 10)
    assert kept.action == "create_run"


def test_what_is_rolled_back_was_not_done(database: Database, project_id: str) -> None:
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
