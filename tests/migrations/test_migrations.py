"""The migrations create the schema that the tables declare, and can be reverted."""

import json

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, text

from service.shared import migrate
from service.shared.database import Database
from service.tables import METADATA


def test_upgrade_creates_every_table_and_downgrade_drops_them(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    assert set(inspect(database.engine).get_table_names()) == {*METADATA.tables, "alembic_version"}
    migrate.downgrade(empty_database_url)
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(empty_database_url)
    assert set(inspect(database.engine).get_table_names()) == {*METADATA.tables, "alembic_version"}
    database.close()


def test_migrated_schema_equals_the_metadata(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
    database.close()


def test_migrated_check_constraints_equal_the_metadata(empty_database_url: str) -> None:
    """Alembic's comparison ignores check constraints."""
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    inspector = inspect(database.engine)
    for name, table in METADATA.tables.items():
        expected = {c.name for c in table.constraints if isinstance(c, CheckConstraint)}
        assert {check["name"] for check in inspector.get_check_constraints(name)} == expected
    database.close()


def test_jobs_of_earlier_releases_get_their_resource(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url, "0010")
    database = Database(empty_database_url)
    time = "'2026-01-01 00:00:00'"
    jobs = (
        "jobs (id, project_id, kind, queue, state, priority, devices, attempt, max_attempts, failures, preemptions, "
        "not_before, dispatch_after, dispatches, progress, created_at)"
    )
    _insert(database, "projects (id, name, created_at)", f"'prj', 'p', {time}")
    for name in ("convert", "train", "other"):
        values = f"'prj', '{name}', 'data', 'queued', 0, 1, 0, 3, 0, 0, {time}, {time}, 0, 0, {time}"
        _insert(database, jobs, f"'{name}', {values}")
    _insert(database, "datasets (id, project_id, name, created_at)", f"'dst', 'prj', 'd', {time}")
    versions = "dataset_versions (id, dataset_id, job_id, version, source, declaration, created_at)"
    _insert(database, versions, f"'dsv', 'dst', 'convert', 12, '{{}}', '{{}}', {time}")
    runs = "runs (id, project_id, job_id, dataset_version_id, model_name, architecture, training, seed, created_at)"
    _insert(database, runs, f"'run_1', 'prj', 'train', 'dsv', 'm', '{{}}', '{{}}', 0, {time}")
    migrate.upgrade(empty_database_url)
    with database.engine.connect() as connection:
        found = connection.execute(text("SELECT id, resource_type, resource_id FROM jobs ORDER BY id")).all()
        assert connection.scalar(text("SELECT count(*) FROM events")) == 0
    assert found == [("convert", "dataset_version", "d/12"), ("other", None, None), ("train", "run", "run_1")]
    database.close()


def test_an_upgrade_from_the_first_migration_keeps_all_rows(empty_database_url: str) -> None:
    """Tables that batch mode copies keep their rows, and so do the tables that refer to them."""
    database = _with_a_run(empty_database_url)
    migrate.upgrade(empty_database_url)
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT model_name, description FROM runs")).all() == [("m", None)]
        assert connection.execute(text("SELECT run_id, value FROM run_metrics")).all() == [("run", 0.5)]
    migrate.downgrade(empty_database_url, "0001")
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT run_id FROM run_metrics")).all() == [("run",)]
    database.close()


def test_the_newest_metrics_of_a_run_become_rows_and_come_back(empty_database_url: str) -> None:
    value = 0.1 + 0.2
    database = _with_a_run(empty_database_url)
    migrate.upgrade(empty_database_url, "0011")
    with database.engine.begin() as connection:
        metrics = json.dumps({"loss": value, "kl": None, "epochs": 3})
        connection.execute(text("INSERT INTO run_progress VALUES ('run', 1, 1, :metrics)"), {"metrics": metrics})
    migrate.upgrade(empty_database_url, "0012")
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM run_latest_metrics ORDER BY name")).all()
    assert rows == [("job", "epochs", "prj", 3.0), ("job", "kl", "prj", None), ("job", "loss", "prj", value)]
    migrate.downgrade(empty_database_url, "0011")
    with database.engine.connect() as connection:
        ((run, step, epoch, stored),) = connection.execute(text("SELECT * FROM run_progress")).all()
    assert (run, step, epoch) == ("run", 1, 1)
    assert (json.loads(stored) if isinstance(stored, str) else stored) == {"loss": value, "kl": None, "epochs": 3}
    database.close()


def _with_a_run(url: str) -> Database:
    """A database of the first migration with a run that has reported a metric."""
    migrate.upgrade(url, "0001")
    database = Database(url)
    time = "'2026-01-01 00:00:00'"
    rows = {
        "projects (id, name, created_at)": f"'prj', 'p', {time}",
        "jobs (id, project_id, kind, queue, state, priority, devices, attempt, max_attempts, failures, preemptions, "
        "not_before, dispatch_after, dispatches, progress, created_at)": f"'job', 'prj', 'train', 'train', 'queued', "
        f"0, 1, 0, 3, 0, 0, {time}, {time}, 0, 0, {time}",
        "datasets (id, project_id, name, created_at)": f"'dst', 'prj', 'd', {time}",
        "dataset_versions (id, dataset_id, job_id, version, source, declaration, created_at)": f"'dsv', 'dst', 'job', "
        f"1, '{{}}', '{{}}', {time}",
        "runs (id, project_id, job_id, dataset_version_id, model_name, architecture, training, seed, "
        "created_at)": f"'run', 'prj', 'job', 'dsv', 'm', '{{}}', '{{}}', 0, {time}",
        "run_metrics (run_id, attempt, name, step, epoch, value, created_at)": f"'run', 1, 'loss', 1, 1, 0.5, {time}",
    }
    for columns, values in rows.items():
        _insert(database, columns, values)
    return database


def _insert(database: Database, columns: str, values: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {columns} VALUES ({values})"))  # noqa: S608


def test_a_downgrade_revokes_the_keys_of_deleted_projects(empty_database_url: str) -> None:
    """The earlier release knows no deleted projects, and would accept their keys."""
    migrate.upgrade(empty_database_url, "0014")
    database = Database(empty_database_url)
    project = text("INSERT INTO projects (id, name, created_at, deleted_at) VALUES (:id, :id, :time, :deleted_at)")
    key = text(
        "INSERT INTO api_keys (id, project_id, name, prefix, secret_sha256, scopes, created_at) "
        "VALUES (:id, :id, 'k', :id, '', '[]', :time)"
    )
    time = "2026-01-01 00:00:00"
    with database.engine.begin() as connection:
        for id, deleted_at in (("used", None), ("gone", time)):
            connection.execute(project, {"id": id, "time": time, "deleted_at": deleted_at})
            connection.execute(key, {"id": id, "time": time})
    migrate.downgrade(empty_database_url, "0013")
    with database.engine.connect() as connection:
        valid = connection.execute(text("SELECT project_id FROM api_keys WHERE revoked_at IS NULL")).scalars().all()
    assert valid == ["used"]
    database.close()


def test_what_was_deleted_before_the_upgrade_counts_as_a_gap(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url, "0014")
    database = Database(empty_database_url)
    for id, project in ((7, "a"), (8, "b"), (9, "a")):
        columns = "events (id, project_id, type, resource_type, resource_id, data, created_at)"
        _insert(database, columns, f"{id}, '{project}', 'x', 'x', 'x', '{{}}', '2026-01-01 00:00:00'")
    migrate.upgrade(empty_database_url)
    with database.engine.connect() as connection:
        noted = connection.execute(text("SELECT project_id, event_id FROM deleted_events ORDER BY project_id")).all()
    assert noted == [("a", 6), ("b", 7)]
    database.close()
