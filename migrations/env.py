"""Alembic's environment: run the migrations on the given database URL, one transaction per migration."""

from typing import Any, Literal

from alembic import context

from service.shared.database import Database, Timestamp
from service.shared.settings import Settings
from service.tables import METADATA


def render(kind: str, item: object, _: object) -> str | Literal[False]:
    """Render a `Timestamp` column in a new migration as its SQL type, so that migrations do not import our classes."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Timestamp) else False


url = context.config.attributes.get("url") or Settings().database_url
database = Database(url)
with database.engine.connect() as connection:
    if connection.dialect.name == "sqlite":
        # Batch mode copies a table and drops the original. With foreign keys on, rows that refer to it are deleted too.
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        compare_type=True,
        render_item=render,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite cannot alter constraints in place
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
database.close()
