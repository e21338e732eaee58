"""The database schema: brought up to date by the migrations, never by the tables themselves."""

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
    """Undo every migration down to `revision`."""
    command.downgrade(_config(url), revision)


def revisions(url: str) -> tuple[str | None, str]:
    """The revision that a database is at, None for an empty one, and the newest that this release knows."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    newest = ScriptDirectory.from_config(_config(url)).get_current_head()
    assert newest is not None  # noqa: S101 there are migrations
    return found, newest


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config
