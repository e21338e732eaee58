"""Aliases: set over HTTP, moved by the engines, and used by inference."""

from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import select, update

from service.access import operations as access
from service.inference.engine import Engine
from service.inference.engine_host import EngineHost
from service.inference.queries import Loadable
from service.registry import alias_rollout, aliases, representations
from service.registry.tables import Alias, Model, ModelVersion
from service.registry.tables import Engine as EngineRow
from service.shared.database import Database, now
from service.shared.storage import Storage, from_settings
from service.shared.storage.tables import Artifact
from tests.conftest import Service, wait_until
from tests.service.steps import Body, fault, problem
from tests.service.trained import install

URL = "/v1/models/m/aliases"


@pytest.fixture(scope="module")
def versions(service: Service) -> Service:
    """A service with a model that has three versions."""
    for seed in range(3):
        install(service, "m", "pictures", seed)
    return service


@pytest.fixture
def alias(versions: Service, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of an alias that the test may create; it is deleted afterwards."""
    name = f"a{abs(hash(request.node.name)) % 10**8}"
    yield f"{URL}/{name}"
    versions.http.delete(f"{URL}/{name}")


def moved(service: Service, alias: str, version: int) -> Body:
    """The alias, once it names a version."""
    wait_until(lambda: service.http.get(alias).json()["version"] == version, 10, f"{alias} names {version}")
    found: Body = service.http.get(alias).json()
    return found


def test_a_new_alias_names_its_version_at_once_and_a_moved_one_once_engines_are_ready(
    versions: Service, alias: str
) -> None:
    made = versions.http.put(alias, json={"version": 1})
    assert (made.status_code, made.json()["version"], made.json()["pending_version"]) == (201, 1, None)
    told = versions.http.put(alias, json={"version": 2})
    assert told.status_code == 200
    assert told.json()["pending_version"] == 2
    found = moved(versions, alias, 2)
    assert (found["pending_version"], found["error"], found["revision"]) == (None, None, 2)
    assert versions.http.get("/v1/models/m").json()["aliases"][alias.rpartition("/")[2]] == 2
    assert alias.rpartition("/")[2] in versions.http.get("/v1/models/m/versions/2").json()["aliases"]


def test_inference_by_an_alias_names_the_version_that_answered(versions: Service, alias: str) -> None:
    versions.http.put(alias, json={"version": 1})
    body = {"inputs": {"label": [1, None, 2], "image": [None, [[0, 1], [1, 0]], None]}}
    by_alias = versions.http.post(f"{alias}/encode", json=body).json()
    by_number = versions.http.post("/v1/models/m/versions/1/encode", json=body).json()
    assert by_alias["version"] == 1
    assert by_alias["mean"] == by_number["mean"]
    versions.http.put(alias, json={"version": 3})
    wait_until(lambda: versions.http.post(f"{alias}/encode", json=body).json()["version"] == 3, 10, "3 answers")
    problem(versions.http.post(f"{URL}/unheard/encode", json=body), 404, "alias_not_found")


def test_a_change_of_an_alias_can_require_its_revision(versions: Service, alias: str) -> None:
    made = versions.http.put(alias, json={"version": 1}, headers={"If-None-Match": "*"})
    assert made.headers["etag"] == '"1"'
    problem(versions.http.put(alias, json={"version": 2}, headers={"If-None-Match": "*"}), 412, "alias_exists")
    moving = versions.http.put(alias, json={"version": 2}, headers={"If-Match": made.headers["etag"]})
    assert moving.headers["etag"] == '"2"'
    late = problem(versions.http.put(alias, json={"version": 3}, headers={"If-Match": '"1"'}), 412, "revision_mismatch")
    assert late["detail"] == "the alias has revision 2, If-Match expects 1"
    moved(versions, alias, 2)
    assert versions.http.get(alias).headers["etag"] == '"2"'  # the end of a rollout does not change the revision
    problem(versions.http.delete(alias, headers={"If-Match": '"1"'}), 412, "revision_mismatch")
    assert versions.http.put(alias, json={"version": 3}, headers={"If-Match": "*"}).status_code == 200
    assert versions.http.delete(alias, headers={"If-Match": '"3"'}).status_code == 204
    problem(versions.http.put(alias, json={"version": 3}, headers={"If-Match": "*"}), 412, "alias_missing")


@pytest.mark.parametrize("given", ["1", 'W/"1"', '"x"', '""', '"1", "2"'])
def test_an_invalid_etag_is_refused(versions: Service, alias: str, given: str) -> None:
    assert fault(versions.http.put(alias, json={"version": 1}, headers={"If-Match": given}))[0] == "if-match"


def test_an_alias_names_only_existing_versions(versions: Service, alias: str) -> None:
    problem(versions.http.put(alias, json={"version": 99}), 404, "model_version_not_found")
    problem(versions.http.put("/v1/models/unknown/aliases/live", json={"version": 1}), 404, "model_not_found")
    problem(versions.http.get(alias), 404, "alias_not_found")
    assert fault(versions.http.put(f"{URL}/7", json={"version": 1}))[0] == "alias"


def test_a_version_with_an_alias_cannot_be_deleted(versions: Service, alias: str) -> None:
    versions.http.put(alias, json={"version": 1})
    name = alias.rpartition("/")[2]
    refused = problem(versions.http.delete("/v1/models/m/versions/1"), 409, "version_in_use")
    assert name in refused["detail"]
    versions.http.put(alias, json={"version": 2})
    problem(versions.http.delete("/v1/models/m/versions/2"), 409, "version_in_use")  # the alias moves to this version
    moved(versions, alias, 2)


def test_a_version_that_cannot_be_loaded_is_not_moved_to(versions: Service, alias: str) -> None:
    newest = install(versions, "m", "pictures", seed=9)
    sha256 = versions.http.get(f"/v1/models/m/versions/{newest}").json()["sha256"]
    path = versions.settings.artifacts / versions.project_id / sha256
    path.write_bytes(path.read_bytes()[:-1])
    versions.http.put(alias, json={"version": 1})
    versions.http.put(alias, json={"version": newest})
    wait_until(lambda: versions.http.get(alias).json()["error"], 10, "the alias says why")
    found = versions.http.get(alias).json()
    assert (found["version"], found["pending_version"]) == (1, None)
    assert "cannot be loaded" in found["error"]
    assert versions.http.put(alias, json={"version": 2}).json()["error"] is None


def test_an_alias_waits_for_every_live_engine_and_no_longer_than_it_may(
    database: Database, versions: Service, alias: str
) -> None:
    """Two engines that share a database, without the engine of the service."""
    project, model, first, second = _copied(database, versions)
    settings = versions.settings
    hosts = [EngineHost(database, Engine(from_settings(settings), 2**30, 1), settings) for _ in range(2)]
    for host in hosts:
        host.tick()
    with database.writer.begin() as session:
        aliases.put(session, project, model, "live", first, None, only_new=False)
        aliases.put(session, project, model, "live", second, None, only_new=False)
    hosts[0].tick()
    assert _named(database) == (first, second)
    hosts[1].tick()
    assert _named(database) == (second, None)
    with database.writer.begin() as session:
        aliases.put(session, project, model, "live", first, None, only_new=False)
        session.add(EngineRow(id="eng_silent", host="h", pid=1))
    for host in hosts:
        host.tick()
    assert _named(database) == (second, first)
    impatient = EngineHost(database, None, settings.model_copy(update={"warm_timeout_seconds": 0.0}))
    impatient.tick()
    assert _named(database) == (first, None)
    for host in hosts:
        host.close()


class _Unlucky(Engine):
    """An engine that cannot load one version, for an unexpected reason, and waits while it loads another."""

    def __init__(self, storage: Storage, broken: str, slow: str) -> None:
        super().__init__(storage, 2**30, 1)
        self.broken, self.slow = broken, slow
        self.loading, self.goes_on = Event(), Event()

    def load(self, version: Loadable) -> Any:
        if version.id == self.broken:
            raise RuntimeError("the disk is full")
        if version.id == self.slow:
            self.loading.set()
            assert self.goes_on.wait(10)
        return None


def test_a_load_that_fails_for_any_reason_keeps_only_its_own_alias(
    database: Database, versions: Service, alias: str
) -> None:
    project, model, first, second = _copied(database, versions)
    with database.reader() as session:
        ids = dict(session.execute(select(ModelVersion.version, ModelVersion.id)).all())
    host = EngineHost(database, _Unlucky(from_settings(versions.settings), ids[second], ""), versions.settings)
    with database.writer.begin() as session:
        for name in ("one", "two"):
            aliases.put(session, project, model, name, first, None, only_new=False)
            aliases.put(session, project, model, name, second, None, only_new=False)
    host.tick()
    with database.reader() as session:
        found = session.execute(select(Alias.version_id, Alias.pending_version_id, Alias.error)).all()
    assert [tuple(row) for row in found] == 2 * [
        (ids[first], None, "an inference process failed to load the version; its log has the reason")
    ]
    host.close()


def test_an_alias_waits_for_an_engine_that_loads_slowly(database: Database, versions: Service, alias: str) -> None:
    project, model, first, second = _copied(database, versions)
    with database.reader() as session:
        ids = dict(session.execute(select(ModelVersion.version, ModelVersion.id)).all())
    engine = _Unlucky(from_settings(versions.settings), "", ids[second])
    host, other = EngineHost(database, engine, versions.settings), EngineHost(database, None, versions.settings)
    with database.writer.begin() as session:
        aliases.put(session, project, model, "live", first, None, only_new=False)
        aliases.put(session, project, model, "live", second, None, only_new=False)
    ticking = Thread(target=host.tick)
    ticking.start()
    assert engine.loading.wait(10)
    with database.writer.begin() as session:  # as if the wait had begun long ago
        session.execute(update(EngineRow).values(heartbeat_at=now(-alias_rollout.ALIVE_SECONDS - 1)))
    host.beat()
    other.tick()
    assert _named(database) == (first, second)
    engine.goes_on.set()
    ticking.join()
    assert _named(database) == (second, None)
    host.close()


def _copied(database: Database, service: Service) -> tuple[str, str, int, int]:
    """The service's model with two versions in another database, over the same files."""
    theirs = Database(service.settings.database_url)
    with theirs.reader() as session:
        rows = session.execute(
            select(ModelVersion, Artifact)
            .join(Artifact)
            .where(ModelVersion.version <= 2)
            .order_by(ModelVersion.version)
        ).all()
    theirs.close()
    with database.writer.begin() as session:
        project = access.create_project(session, "copied")
        session.flush()
        project.id = service.project_id
        session.flush()
        session.add(Model(id="mod_1", project_id=service.project_id, name="m", last_version=2))
        for version, artifact in rows:
            session.add(
                Artifact(
                    id=artifact.id,
                    project_id=service.project_id,
                    sha256=artifact.sha256,
                    size_bytes=artifact.size_bytes,
                )
            )
            session.flush()
            session.add(
                ModelVersion(
                    id=version.id,
                    model_id="mod_1",
                    version=version.version,
                    artifact_id=artifact.id,
                    config=version.config,
                    metrics={},
                    lineage={},
                )
            )
    return service.project_id, "m", 1, 2


def _named(database: Database) -> tuple[int, int | None]:
    """The version of the only alias, and its pending version."""
    with database.reader() as session:
        alias = session.scalars(select(Alias)).one()
        shown = representations.of_alias(session, "m", alias)
    return shown.version, shown.pending_version
