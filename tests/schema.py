"""Databases with the newest schema, copied from one that was migrated once in this process."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url, text

from service.shared import migrate

TEMPLATE = "migrated_template"
FOLDER = tempfile.TemporaryDirectory(prefix="sensorium-schema-")  # removed when the process ends


def install(url: str) -> None:
    """Give an empty database the newest schema: the same as `migrate.upgrade(url)`, without the migrations' time."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_migrated_file(), path)
        return
    template = template_on(parsed.set(database="postgres"))
    _administer(
        parsed, f'DROP DATABASE "{parsed.database}"', f'CREATE DATABASE "{parsed.database}" TEMPLATE {template}'
    )


@cache
def template_on(server: URL) -> str:
    """The name of a PostgreSQL database with the newest schema; no session is connected to it."""
    _administer(server, f"CREATE DATABASE {TEMPLATE}")
    migrate.upgrade(server.set(database=TEMPLATE).render_as_string(hide_password=False))
    return TEMPLATE


@cache
def _migrated_file() -> Path:
    path = Path(FOLDER.name) / "migrated.db"
    migrate.upgrade(f"sqlite:///{path}")
    assert not path.with_name("migrated.db-wal").exists()  # everything is in the one file that is copied
    return path


def _administer(url: URL, *statements: str) -> None:
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()
