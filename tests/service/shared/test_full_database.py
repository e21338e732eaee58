"""A PostgreSQL server with a full disk: writes get 507, deletions and reads still work."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import make_url, text

from service.access import operations as access
from service.app import create_app
from service.shared import migrate
from service.shared.database import Database
from service.shared.settings import Settings
from tests import filesystem

MEGABYTES = 64


@contextmanager
def on_small_disk(server_url: str) -> Iterator[tuple[str, Path]]:
    """A database with its tables on a small disk; the write-ahead log is on another disk."""
    if os.geteuid() != 0:
        pytest.skip("only root can give PostgreSQL a disk of its own")
    name = f"small_{time.monotonic_ns()}"
    folder = Path(tempfile.mkdtemp(prefix="sensorium-tablespace-"))
    folder.chmod(0o755)
    server = Database(server_url)
    with filesystem.small(folder / "disk", MEGABYTES) as disk:
        (disk / "tables").mkdir()
        disk.chmod(0o755)
        shutil.chown(disk / "tables", "postgres")
        with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE TABLESPACE {name} LOCATION '{disk / 'tables'}'"))
            connection.execute(text(f"CREATE DATABASE {name} TABLESPACE {name}"))
            yield make_url(server_url).set(database=name).render_as_string(hide_password=False), disk
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            connection.execute(text(f"DROP TABLESPACE {name}"))
    server.close()
    shutil.rmtree(folder)


def test_a_write_to_a_full_postgresql_server_gets_507(postgresql_server: str, tmp_path: Path) -> None:
    with on_small_disk(postgresql_server) as (url, disk):
        migrate.upgrade(url)
        database = Database(url)
        with database.writer.begin() as session:
            project = access.create_project(session, "test").id
            _, key = access.create_key(session, project, "test")
        database.close()
        settings = Settings(home=tmp_path, database=url, secret_key=SecretStr("k" * 32))
        with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"}) as http:
            made = http.post("/v1/api-keys", json={"name": "first"}).json()["id"]
            filesystem.fill(disk / "ballast")
            # rows fill the existing pages, until PostgreSQL cannot allocate another page
            answers = (http.post("/v1/api-keys", json={"name": "n" * 100}) for _ in range(2000))
            refused = next(answer for answer in answers if answer.status_code != 201)
            assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()) == (200, {"status": "degraded", "impaired": ["storage"]})
            assert http.get("/v1/api-keys").status_code == 200
            (disk / "ballast").unlink()
            assert http.delete(f"/v1/api-keys/{made}").status_code == 204
            assert http.post("/v1/api-keys", json={"name": "last"}).status_code == 201
