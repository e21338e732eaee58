"""The migrations make the schema that the tables describe, and can be undone."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect

from service import migrate
from service.shared.database import Database
from service.shared.tables import Table


def test_upgrade_from_nothing_makes_every_table_and_downgrade_leaves_nothing(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    assert set(inspect(database.engine).get_table_names()) == {*Table.metadata.tables, "alembic_version"}
    migrate.downgrade(empty_database_url)
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(empty_database_url)
    assert set(inspect(database.engine).get_table_names()) == {*Table.metadata.tables, "alembic_version"}
    database.close()


def test_migrations_and_metadata_do_not_differ(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []
    database.close()


def test_migrations_make_the_same_constraints_as_the_metadata(empty_database_url: str) -> None:
    """Alembic's comparison passes over check constraints."""
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    inspector = inspect(database.engine)
    for name, table in Table.metadata.tables.items():
        expected = {c.name for c in table.constraints if isinstance(c, CheckConstraint)}
        assert {check["name"] for check in inspector.get_check_constraints(name)} == expected
    database.close()
