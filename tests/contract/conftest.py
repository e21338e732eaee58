"""The OpenAPI document, and the application behind a real port with resources of every kind."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from service.access import operations as access
from service.access.tables import Project
from service.app import create_app
from service.shared.database import Database
from service.shared.settings import Settings
from tests.conftest import Service, wait_until

Document = dict[str, Any]


@pytest.fixture(scope="session")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The OpenAPI document as it is served."""
    found: Document = create_app(Settings(home=tmp_path_factory.mktemp("document"))).openapi()
    return found


@dataclass(frozen=True)
class Served:
    """The address of the application of a `service`, and a key with all scopes."""

    url: str
    key: str
    key_id: str
    spare_key_id: str


@pytest.fixture(scope="module")
def served(service: Service) -> Iterator[Served]:
    """The application over the data of `service`, on a separate port."""
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        session.get_one(Project, service.project_id).operates = True
        known, key = access.create_key(session, service.project_id, "operator")
        spare, _ = access.create_key(session, service.project_id, "spare")
        ids = known.id, spare.id
    database.close()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(
        uvicorn.Config(create_app(service.settings), log_level="warning", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started, 30, "uvicorn listens")
    yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", key, *ids)
    server.should_exit = True
    thread.join()
