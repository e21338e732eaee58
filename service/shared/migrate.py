"""Upgrades the database schema with the migrations, never from the table classes."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def upgrade(url: str, revision: str = "head") -> None:
    """Apply every migration up to `revision`."""
    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Revert every migration down to `revision`."""
    command.downgrade(_config(url), revision)


def revisions(url: str) -> tuple[str | None, str]:
    """The revision of a database, None for an empty one, and the newest revision of this release."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    newest = ScriptDirectory.from_config(_config(url)).get_current_head()
    assert newest is not None  # noqa: S101 the folder of migrations is not empty
    return current, newest


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config
