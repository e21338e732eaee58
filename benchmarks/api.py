"""An API process without workers, over a database of its own, on SQLite and on PostgreSQL."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import httpx2 as httpx
from sqlalchemy import make_url, text

from service.shared import migrate
from service.shared.database import Database
from tests import servers
from tests.conftest import wait_until


@contextmanager
def databases(name: str) -> Iterator[list[tuple[str, str, Path]]]:
    """(what it is, its URL, an empty folder) of a migrated database of each kind."""
    with tempfile.TemporaryDirectory() as folder, servers.postgresql() as server_url:
        server = Database(server_url)
        with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        server.close()
        url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
        found = [("SQLite", f"sqlite:///{folder}/{name}.db"), ("PostgreSQL", url)]
        for _, address in found:
            migrate.upgrade(address)
        homes = [Path(folder) / kind for kind, _ in found]
        for home in homes:
            home.mkdir()
        yield [(kind, address, home) for (kind, address), home in zip(found, homes, strict=True)]


SECRET_KEY = secrets.token_hex(32)


class Running(NamedTuple):
    """An API process that answers."""

    address: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def api(url: str, home: Path, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Running]:
    """An API process over a database."""
    port, log = servers.free_port(), home / "log"
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(home),
        "SENSORIUM_DATABASE": url,
        "SENSORIUM_SECRET_KEY": SECRET_KEY,
        "SENSORIUM_PORT": str(port),
        **settings,
    }
    with log.open("wb") as output:
        command = [sys.executable, "-m", "service.cli", "api"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(address), 60, "the API")
        yield Running(address, log, process)
    finally:
        process.kill()  # it would wait for open streams
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").is_success
    except httpx.TransportError:
        return False
