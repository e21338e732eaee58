"""What holds between the parts: names that both sides of a message use, and what is imported when."""

import ast
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from service.access.tables import Project
from service.datasets import operations as datasets
from service.jobs.tables import Job
from service.registry.tables import ModelVersion
from service.runs import selection
from service.shared import broker
from tests import table_ownership
from tests.conftest import Service
from worker import supervisor
from worker.jobs import KINDS

ROOT = Path(__file__).parent.parent


def _imported(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_every_task_that_the_service_sends_is_registered_by_a_worker(service: Service) -> None:
    """What stands in the queues after the API was asked for work, beside what a worker's process knows."""
    broker.declare(service.settings)
    file = io.BytesIO()
    np.savez(file, a=np.zeros((40, 2)), b=np.ones((40, 1)))
    upload = service.http.post("/v1/uploads", content=file.getvalue()).json()["id"]
    service.http.post("/v1/datasets", json={"name": "d", "source": {"upload": upload}})
    service.work("data")
    answer = service.http.post("/v1/runs", json={"dataset": {"name": "d"}, "model": "m", "training": {"batch_size": 4}})
    assert answer.status_code == 201, answer.text
    messages = [json.loads(path.read_text()) for path in (service.settings.queue_folder / "messages").glob("*.msg")]
    sent = {message["headers"]["task"] for message in messages}
    worker = broker.connect(service.settings)
    supervisor.register(worker, service.worker)
    assert len(sent) == 2
    assert sent <= set(worker.tasks)
    service.http.post(f"/v1/runs/{answer.json()['id']}/cancel")


def test_every_kind_of_job_that_the_service_makes_is_known_to_workers() -> None:
    assert {selection.KIND, datasets.KIND} == set(KINDS)


def test_the_application_serves_without_torch_until_it_computes(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from fastapi.testclient import TestClient
from service.shared import migrate
from service.app import create_app
from service.shared.settings import Settings
settings = Settings(home=Path({str(tmp_path)!r}))
migrate.upgrade(settings.database_url)
with TestClient(create_app(settings)) as http:
    assert http.get("/readyz").status_code == 200
    assert http.get("/v1/runs").status_code == 401
"""
    imported = _imported(program)
    assert "fastapi" in imported
    assert "torch" not in imported


def test_configurations_are_checked_without_torch() -> None:
    assert "torch" not in _imported("import models, models.config")


def test_the_trainer_imports_no_sql_and_no_celery() -> None:
    imported = _imported("import worker.trainer, worker.ingest.converter")
    assert "torch" in imported
    assert not imported & {"sqlalchemy", "celery", "kombu", "fastapi"}


@pytest.mark.parametrize("module", ["service.app", "worker.app", "service.cli.installation", "service.cli.projects"])
def test_every_process_that_deletes_unused_files_imports_all_tables(module: str) -> None:
    """A file is unused when no row of any table refers to it."""
    program = f"""
import {module}
from service.shared.table_base import Table
before = set(Table.metadata.tables)
import service.tables
assert before == set(Table.metadata.tables), set(Table.metadata.tables) - before
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_no_file_is_called_after_nothing() -> None:
    vague = {"utils.py", "helpers.py", "models.py", "service.py"}
    sources = [path for folder in ("models", "service", "worker") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in sources if path.name in vague] == []


def _transactions(source: str) -> list[str]:
    """The calls by which a function that is given a session begins or ends a transaction; savepoints are none."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if "session" not in {argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]}:
            continue
        savepoints = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and "begin_nested" in ast.unparse(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in {"begin", "commit", "rollback"} and ast.unparse(node.func.value) not in savepoints:
                found.append(f"{function.name}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("session.commit()", ["f: session.commit()"]),
        ("with database.writer.begin() as other: pass", ["f: database.writer.begin()"]),
        ("session.get_bind().rollback()", ["f: session.get_bind().rollback()"]),
        ("point = session.begin_nested(); point.rollback()", []),
        ("session.add(row)", []),
    ],
)
def test_a_transaction_inside_of_an_operation_would_be_found(body: str, found: list[str]) -> None:
    assert _transactions(f"def f(session):\n    {body}") == found
    assert _transactions(f"def f(services):\n    {body}") == []


def test_operations_never_commit() -> None:
    """One transaction, at the edge, in sight: in a route, a task or a tick, which are given no session."""
    sources = [path for folder in ("service", "worker") for path in (ROOT / folder).rglob("*.py")]
    found = {path.name: calls for path in sources if (calls := _transactions(path.read_text()))}
    assert found == {}


@pytest.mark.parametrize(
    ("module", "write", "found"),
    [
        ("service.runs.planted", "session.execute(update(ModelVersion).values(run_id=None))", "service.registry owns"),
        ("service.runs.planted", "session.execute(delete(Job).where(Job.id == ''))", "service.jobs.operations owns"),
        ("service.jobs.planted", "session.execute(update(Project).values(served_at=None))", "service.access owns"),
        ("service.jobs.planted", "session.execute(update(Job).values(state='queued'))", "service.jobs.operations owns"),
        ("service.jobs.planted", "session.add(Project(id='prj_1', name='planted'))", "service.access owns"),
        ("service.datasets.planted", "session.scalars(select(Project)).first().name = 'n'", "service.access owns"),
        ("worker.planted", "session.scalars(select(Project)).first().name = 'n'", "service.access owns"),
        ("service.access.planted", "session.scalars(select(Project)).first().name = 'n'", None),
        ("service.access.planted", "session.execute(update(Project).values(served_at=None))", None),
        ("service.jobs.operations.planted", "session.execute(update(Job).values(priority=1))", None),
        ("service.runs.planted", "session.scalars(select(Project)).first().name", None),
    ],
)
def test_a_write_to_a_table_of_another_domain_is_found(
    service: Service, module: str, write: str, found: str | None
) -> None:
    names = {"__name__": module, "update": update, "delete": delete, "select": select}
    names |= {"Job": Job, "Project": Project, "ModelVersion": ModelVersion}
    with service.worker.database.writer() as session:
        exec(write, {**names, "session": session})  # noqa: S102
    writes, table_ownership.found[:] = [*table_ownership.found], []
    assert len({*writes}) == (found is not None)
    assert all(one.startswith(f"{module} ") and one.endswith(f"which {found}") for one in writes)


def _foreign_writes(module: str, source: str) -> list[str]:
    """Table classes that a module imports from another domain and inserts, updates, deletes or constructs."""
    tree = ast.parse(source)
    owners = {
        alias.asname or alias.name: node.module.removesuffix(".tables")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.endswith(".tables")
        for alias in node.names
    }
    written = [
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for name in ([node.func] if node.func.id in owners else node.args[:1])
        if isinstance(name, ast.Name) and (name is node.func or node.func.id in {"insert", "update", "delete"})
    ]
    return [name.id for name in written if name.id in owners and not module.startswith(owners[name.id])]


def test_a_foreign_write_in_code_that_no_test_runs_would_be_found() -> None:
    source = (
        "from service.jobs.tables import Job\ndef f(session):\n    session.execute(update(Job).values(state='failed'))"
    )
    assert _foreign_writes("service.runs.operations", source) == ["Job"]
    assert _foreign_writes("service.jobs.operations.recovery", source) == []
    assert _foreign_writes("service.runs.operations", source.replace("update(Job)", "select(Job)")) == []
    assert _foreign_writes("worker.presence", "from service.jobs.tables import Worker\nWorker(id='wrk_1')") == [
        "Worker"
    ]


def test_a_domain_changes_its_own_tables_only() -> None:
    """Attributes that are assigned are found while tests run: see `tests.table_ownership`."""
    found = {}
    for path in [path for folder in ("service", "worker") for path in (ROOT / folder).rglob("*.py")]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if writes := _foreign_writes(module, path.read_text()):
            found[module] = writes
    assert found == {}


def test_jobs_and_access_know_no_kind_of_job() -> None:
    sources = [path for folder in ("jobs", "access") for path in (ROOT / "service" / folder).rglob("*.py")]
    named = {path.name: kind for path in sources for kind in KINDS if f'"{kind}"' in path.read_text()}
    assert named == {}
