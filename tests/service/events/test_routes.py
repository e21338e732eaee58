"""GET /v1/events: pages, filters and streams over a real server, as a client that reconnects follows them."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
from sqlalchemy import update

from service.access import operations as access
from service.shared import events
from service.shared.database import Database, now
from service.shared.events import TYPES, Event, Resource
from tests.conftest import Service, wait_until
from tests.service.inference.serving import api
from tests.service.steps import fault, problem

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def database(service: Service) -> Iterator[Database]:
    """The service's database, as another process sees it."""
    database = Database(service.settings.database_url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with api(service.settings) as url:
        yield url


class Project:
    """A project of the test's own, with a key."""

    def __init__(self, database: Database, url: str, name: str) -> None:
        with database.writer.begin() as session:
            self.id = access.create_project(session, name).id
            self.key_id = access.create_key(session, self.id, "k")[0].id
        self._database = database
        self.url = f"{url}/v1/events"
        self.http = self.client()

    def client(self, *scopes: Any) -> httpx.Client:
        with self._database.writer.begin() as session:
            _, token = access.create_key(session, self.id, "k", scopes or access.SCOPES)
        return httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def record(self, *resources: str, type: str = "upload.created") -> None:
        with self._database.writer.begin() as session:
            for id in resources:
                events.record(session, self.id, type, Resource(type.partition(".")[0], id))

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.http.get(self.url, params=query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["events"]
        return found

    def names(self, **query: Any) -> list[str]:
        return [event["resource"]["id"] for event in self.listed(**query)]

    def follow(self, count: int, headers: dict[str, str] | None = None, **query: Any) -> list[dict[str, Any]]:
        """The first `count` events of a stream."""
        with self.http.stream("GET", self.url, headers={**STREAM, **(headers or {})}, params=query) as answer:
            assert answer.status_code == 200
            return list(itertools.islice(_events(answer), count))


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield {**json.loads(fields["data"]), "event": fields["event"], "sent_id": fields.get("id")}
            fields = {}


@pytest.fixture
def project(database: Database, url: str, request: pytest.FixtureRequest) -> Project:
    return Project(database, url, request.node.name[:80])


def test_an_event_names_its_resource_and_where_the_api_has_it(project: Project) -> None:
    project.record("digits/3", type="dataset_version.succeeded")
    event = project.listed()[-1]
    assert event.keys() == {"id", "type", "resource", "data", "created_at"}
    assert (event["type"], event["data"]) == ("dataset_version.succeeded", {})
    assert event["resource"] == {"type": "dataset_version", "id": "digits/3", "path": "/v1/datasets/digits/versions/3"}
    assert event["created_at"].endswith("Z")


def test_pages_are_oldest_first_and_hold_each_event_once(project: Project) -> None:
    names = [f"u{n}" for n in range(5)]
    project.record(*names)
    found, token = [], None
    while True:
        query = {"type": "upload.created", "page_size": 2} | ({"page_token": token} if token else {})
        page = project.http.get(project.url, params=query).json()
        assert len(page["events"]) <= 2
        found += page["events"]
        token = page["next_page_token"]
        if token is None:
            break
    assert [event["resource"]["id"] for event in found] == names
    assert [event["id"] for event in found] == sorted(event["id"] for event in found)
    assert project.names(after=found[2]["id"]) == names[3:]
    assert project.names(after=found[-1]["id"]) == []
    problem(project.http.get(project.url, params={"page_token": "x"}), 400, "invalid_page_token")


def test_filters_select_events(project: Project) -> None:
    project.record("a", "b")
    project.record("a", type="upload.deleted")
    assert project.names(resource="a") == ["a", "a"]
    assert project.names(type="upload.deleted") == ["a"]
    assert project.names(type=["upload.deleted", "upload.created"], resource="b") == ["b"]
    first, second, _ = project.listed(type=["upload.deleted", "upload.created"])
    assert project.listed(created_after=first["created_at"], resource="a")[0] == first
    assert first not in project.listed(created_before=first["created_at"])
    assert second not in project.listed(created_after="2999-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("type=run.exploded", "?type"),
        ("after=-1", "?after"),
        ("after=x", "?after"),
        ("page_size=0", "?page_size"),
        ("created_after=2026-01-01T00:00:00", "?created_after"),
        ("resource=", "?resource"),
        ("resource=a&resource=b", "?resource"),
        ("kind=run", "?kind"),
    ],
)
def test_wrong_parameters_are_named(project: Project, query: str, place: str) -> None:
    assert fault(project.http.get(f"{project.url}?{query}"))[0] == place


def test_an_unknown_type_is_answered_with_the_known_ones(project: Project) -> None:
    body = problem(project.http.get(f"{project.url}?type=run.exploded"), 422)
    assert "'run.exploded'" in body["detail"] or '"run.exploded"' in body["detail"]
    assert next(iter(TYPES)) in body["detail"]


def test_a_foreign_project_sees_nothing(project: Project, database: Database, url: str) -> None:
    other = Project(database, url, "foreign")
    project.record("mine")
    other.record("theirs")
    assert "mine" not in other.names()
    assert other.names(resource="mine") == []
    with other.http.stream("GET", other.url, headers=STREAM) as answer:
        found = _events(answer)
        seen = [next(found)["resource"]["id"]]
        project.record("mine again")
        other.record("theirs again")
        while seen[-1] != "theirs again":
            seen.append(next(found)["resource"]["id"])
    assert "mine" not in seen
    assert "mine again" not in seen


def test_events_of_keys_and_projects_need_the_scope_admin(project: Project) -> None:
    project.record("key_1", type="api_key.created")
    project.record("u")
    assert "key_1" in project.names()
    reader = project.client("read")
    assert "key_1" not in [event["resource"]["id"] for event in reader.get(project.url).json()["events"]]
    with reader.stream("GET", project.url, headers=STREAM) as answer:
        assert all(event["resource"]["id"] == "u" for event in itertools.islice(_events(answer), 1))
    problem(project.client("infer").get(project.url), 403, "insufficient_scope")


def test_a_stream_resumes_after_the_last_event(project: Project) -> None:
    project.record("a", "b", "c")
    listed = project.listed(type="upload.created")
    streamed = project.follow(3, type="upload.created")
    assert [{name: event[name] for name in listed[0]} for event in streamed] == listed
    assert [event["event"] for event in streamed] == ["upload.created"] * 3
    assert [event["sent_id"] for event in streamed] == [str(event["id"]) for event in listed]
    last = str(listed[0]["id"])
    assert project.follow(2, {"Last-Event-ID": last}) == streamed[1:]
    assert project.follow(2, after=last) == streamed[1:]
    # the header of a browser that reconnects wins over the address that it began with
    assert project.follow(1, {"Last-Event-ID": str(listed[1]["id"])}, after=last) == streamed[2:]
    token = project.http.get(project.url, params={"page_size": 1, "type": "upload.created"}).json()["next_page_token"]
    assert project.follow(2, type="upload.created", page_token=token) == streamed[1:]
    assert project.follow(3, {"Last-Event-ID": ""}, type="upload.created") == streamed


def test_a_stream_has_each_header_once_and_no_cache(project: Project) -> None:
    with project.http.stream("GET", project.url, headers=STREAM) as answer:
        names = [name.lower() for name, _ in answer.headers.raw]
        assert sorted(names) == sorted(set(names))
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"


def test_a_reader_behind_deleted_events_is_told(project: Project, database: Database) -> None:
    project.record("a", "b", "c")
    first, second, third = project.listed(type="upload.created")
    with database.writer.begin() as session:
        session.execute(update(Event).where(Event.id > second["id"]).values(created_at=now(60.0)))
        events.delete_old(session, days=0.0)
    body = problem(project.http.get(project.url, params={"after": first["id"]}), 410, "events_pruned")
    assert f"event {first['id']} is not stored" in body["detail"]
    assert str(third["id"]) in body["detail"]
    told, rest = project.follow(2, {"Last-Event-ID": str(first["id"])})
    assert (told["event"], told["sent_id"], told["code"]) == ("events_pruned", None, "events_pruned")
    assert (told["after"], told["oldest"]) == (first["id"], third["id"])
    assert rest["id"] == third["id"]
    assert project.names() == ["c"]
    assert project.follow(1)[0]["id"] == third["id"]


def test_a_stream_ends_with_the_reason_when_the_key_is_revoked(project: Project, database: Database) -> None:
    project.record("u")
    with database.writer.begin() as session:
        key, token = access.create_key(session, project.id, "short-lived")
        key_id = key.id
    headers = {**STREAM, "Authorization": f"Bearer {token}"}
    with httpx.stream("GET", project.url, headers=headers, timeout=60) as answer:
        found = _events(answer)
        next(found)
        with database.writer.begin() as session:
            access.revoke_key(session, project.id, key_id)
        last = list(found)[-1]
    assert (last["event"], last["code"], last["sent_id"]) == ("access_ended", "invalid_api_key", None)
    wait_until(lambda: httpx.get(project.url, headers=headers).status_code == 401)
