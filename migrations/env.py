"""How Alembic runs the migrations: over the URL it is handed, each step in a transaction of its own."""

from typing import Any, Literal

from alembic import context

from service.shared.database import Database, Timestamp
from service.shared.settings import Settings
from service.shared.tables import Table


def render(kind: str, item: object, _: object) -> str | Literal[False]:
    """Write our column types into a new migration as what they are in SQL, not as our classes."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Timestamp) else False


url = context.config.attributes.get("url") or Settings().database_url
database = Database(url)
with database.engine.connect() as connection:
    if connection.dialect.name == "sqlite":
        # A table that is copied is dropped, and what refers to it must not go with it.
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        compare_type=True,
        render_item=render,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite changes a table by copying it
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
database.close()
