"""Fixtures that all tests share: real databases, a real application, and a project that calls it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import structlog
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url, text

from service.access import operations as access
from service.app import create_app
from service.shared import broker
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import from_settings
from tests import documented, fork_server, schema, servers, table_ownership
from worker import supervisor
from worker.child_process import Launcher
from worker.worker_state import WorkerState

# Of every database that a test makes, and of the processes that it starts.
os.environ.setdefault("SENSORIUM_RESERVE_BYTES", str(1024**2))
# Two processes run tests, and start others: more threads than processors wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# By default structlog renders each traceback with rich: half a second of processor time.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# Deadlines are those of a machine at rest. On a busy one a test takes longer, and its verdict is the same.
PATIENCE = 5
# Files that take long, to begin with: begun last, one of them would keep one process at work while the others wait.
LONG = (
    "worker/test_supervisor.py",
    "test_readme.py",
    "service/inference/test_workers.py",
    "service/http/test_idempotency.py",
    "service/jobs/test_operations.py",
    "service/inference/test_generation.py",
    "service/runs/test_defaults.py",
    "worker/test_trainer.py",
    "service/access/test_isolation.py",
    "service/inference/test_routes.py",
    "service/shared/test_startup_checks.py",
    "service/administration/test_routes.py",
    "e2e/test_embedded.py",
    "e2e/test_logs.py",
    "contract/test_schemathesis.py",
    "contract/test_every_error.py",
    "migrations/test_upgrade.py",
)


table_ownership.watch()


@pytest.fixture(autouse=True)
def _writes_of_owners_only() -> Iterator[None]:
    """Fail a test in which a domain wrote a table of another one."""
    yield
    found, table_ownership.found[:] = [*table_ownership.found], []
    assert found == []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first; every process of a run orders its tests alike."""
    tests = Path(__file__).parent
    outside = [
        item.nodeid for item in items if item.get_closest_marker("serial") and tests / "e2e" not in item.path.parents
    ]
    assert outside == [], "`make test` runs serial tests of tests/e2e only"
    places = {tests / name: place for place, name in enumerate(LONG)}
    assert [str(path) for path in places if not path.exists()] == []
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


def need(found: object, what: str) -> None:
    """Skip a test without a program it needs; fail it where all of them are required."""
    if found is None:
        if os.environ.get("SENSORIUM_REQUIRE_SERVICES") == "1":
            pytest.fail(f"{what} is required by SENSORIUM_REQUIRE_SERVICES=1 and not installed")
        pytest.skip(f"{what} is not installed (Debian: apt-get install postgresql redis-server curl g++ nodejs npm)")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the test session."""
    need(servers.postgresql_binaries(), "PostgreSQL")
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server that lives as long as the test session."""
    need(servers.redis_binary(), "Redis")
    with servers.redis_server(tmp_path_factory.mktemp("redis") / "server") as url:
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server that lives as long as the test session."""
    with servers.s3_server() as url:
        yield url


@pytest.fixture
def s3_settings(s3_server: str, tmp_path: Path) -> Settings:
    """Settings with an empty bucket of the test's own."""
    bucket = f"artifacts-{time.monotonic_ns()}"
    httpx.put(f"{s3_server}/{bucket}").raise_for_status()
    return Settings(
        home=tmp_path / "home",
        storage=f"s3://{bucket}/kept",
        s3_endpoint=s3_server,
        s3_access_key_id="test",
        s3_secret_access_key=SecretStr("secret-of-the-bucket"),
    )


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own."""
    with created(postgresql_server) as url:
        yield url


@contextmanager
def created(server: str, template: str = "template1") -> Iterator[str]:
    """A new database of a PostgreSQL server; yields its URL."""
    name = f"test_{time.monotonic_ns()}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables, once for each kind of database we support."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def migrated_sqlite_url(sqlite_url: str) -> str:
    """The URL of a SQLite file with our schema."""
    schema.install(sqlite_url)
    return sqlite_url


@pytest.fixture
def migrated_postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of a PostgreSQL database of the test's own with our schema."""
    with created(postgresql_server, schema.template_on(make_url(postgresql_server))) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with our schema, once for each kind."""
    database = Database(request.getfixturevalue(f"migrated_{request.param}_url"))
    yield database
    database.close()


@pytest.fixture
def project_id(database: Database) -> str:
    """A project in `database`."""
    with database.writer.begin() as session:
        return access.create_project(session, "test").id


@dataclass(frozen=True)
class Service:
    """An application over a real SQLite file, a client with a key of its project, and a worker to call by hand."""

    settings: Settings
    http: TestClient
    project_id: str
    key: str
    worker: WorkerState

    def work(self, queue: str) -> None:
        """Do what is due on a queue, here and now, as a worker would."""
        supervisor.work(self.worker, queue)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all tests of a module."""
    settings = Settings(home=tmp_path_factory.mktemp("service"), heartbeat_seconds=0.2, retry_seconds=0)
    with running(settings) as service:
        yield service


@contextmanager
def running(settings: Settings) -> Iterator[Service]:
    """A service with these settings over an empty home."""
    schema.install(settings.database_url)
    database = Database(settings.database_url)
    with database.writer.begin() as session:
        project = access.create_project(session, "test").id
        _, key = access.create_key(session, project, "test")
    messages = broker.connect(settings)
    launcher = Launcher(settings.log_bytes, start=fork_server.start)
    worker = WorkerState(settings, database, from_settings(settings), messages, "wrk_test", launcher)
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"}) as http:
        http.event_hooks = {"response": [documented.check]}
        yield Service(settings, http, project, key, worker)
    database.close()


def wait_until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "the condition") -> Any:
    """What `condition` returns once it is true; fails the test when it is not within `PATIENCE` times `seconds`."""
    deadline = time.monotonic() + PATIENCE * seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} did not hold within {PATIENCE * seconds} s"
        time.sleep(0.05)
    return answer
