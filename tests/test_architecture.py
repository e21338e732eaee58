"""What holds between the parts: names that both sides of a message use, and what is imported when."""

import subprocess
import sys
from pathlib import Path

from service.datasets import operations as datasets
from service.runs import operations as runs
from service.shared import broker
from service.shared.settings import Settings
from worker import tasks
from worker.context import Context
from worker.kinds import KINDS

ROOT = Path(__file__).parent.parent


def _imported(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_every_task_that_the_service_sends_is_registered_by_a_worker(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    app = broker.connect(settings)
    tasks.register(app, Context(settings, None, None, app, "wrk_test"))  # type: ignore[arg-type]
    assert set(broker.TASKS.values()) <= set(app.tasks)


def test_every_queue_that_jobs_are_put_on_has_a_task() -> None:
    assert {runs.QUEUE, datasets.QUEUE} <= set(broker.TASKS)


def test_every_kind_of_job_that_the_service_makes_is_known_to_workers() -> None:
    assert {runs.KIND, datasets.KIND} == set(KINDS)


def test_the_application_starts_without_torch() -> None:
    imported = _imported(
        "from service.app import create_app; from service.shared.settings import Settings; create_app(Settings())"
    )
    assert "fastapi" in imported
    assert "torch" not in imported


def test_configurations_are_checked_without_torch() -> None:
    assert "torch" not in _imported("import models, models.config")


def test_the_trainer_knows_no_sql_and_no_celery() -> None:
    imported = _imported("import worker.trainer, worker.converter")
    assert "torch" in imported
    assert not imported & {"sqlalchemy", "celery", "kombu", "fastapi"}


def test_no_file_is_called_after_nothing() -> None:
    vague = {"utils.py", "helpers.py", "models.py", "service.py"}
    sources = [path for folder in ("models", "service", "worker") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in sources if path.name in vague] == []
