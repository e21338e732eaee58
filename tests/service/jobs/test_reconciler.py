"""The reconciler: wake-ups of queued jobs, reaping of lost jobs, and its delay after an outage."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.jobs import operations as jobs
from service.jobs.reconciler import Reconciler
from service.jobs.tables import Job
from service.lineage import expiry
from service.shared import broker
from service.shared.database import Database, now
from service.shared.settings import Settings
from service.shared.storage import from_settings
from tests.conftest import wait_until


def state(database: Database, job_id: str) -> str:
    with database.reader() as session:
        return session.get_one(Job, job_id).state


def lost_job(database: Database, project_id: str) -> str:
    with database.writer.begin() as session:
        job_id = jobs.create(session, project_id, "test", "data").id
        assert jobs.claim(session, "data", "wrk_gone", 0.001) is not None
    return job_id


def settings(folder: Path, lease_seconds: float) -> Settings:
    return Settings(home=folder, lease_seconds=lease_seconds, heartbeat_seconds=0.01, retry_seconds=0)


def test_a_job_that_waits_gets_a_message(database: Database, project_id: str, tmp_path: Path) -> None:
    chosen = settings(tmp_path, 60)
    messages = broker.connect(chosen)
    broker.declare(chosen)
    with database.writer.begin() as session:
        job = jobs.create(session, project_id, "test", "data")
        job.dispatch_after = now()
        job_id = job.id
    Reconciler(chosen, database, from_settings(chosen), messages, expiry.purge).tick()
    with messages.connection_for_read() as connection:
        message = connection.SimpleQueue("data").get(timeout=60)
        message.ack()
    assert message.headers["task"] == broker.TASKS["data"]
    assert job_id in message.headers["argsrepr"]


def test_nothing_is_reaped_before_the_database_has_answered_for_a_lease(
    database: Database, project_id: str, tmp_path: Path
) -> None:
    chosen = settings(tmp_path, 60)
    reconciler = Reconciler(chosen, database, from_settings(chosen), broker.connect(chosen), expiry.purge)
    job_id = lost_job(database, project_id)
    for _ in range(3):
        reconciler.tick()
    assert state(database, job_id) == "running"


def test_a_lost_job_is_queued_again(database: Database, project_id: str, tmp_path: Path) -> None:
    chosen = settings(tmp_path, 0.05)
    reconciler = Reconciler(chosen, database, from_settings(chosen), broker.connect(chosen), expiry.purge)
    job_id = lost_job(database, project_id)

    def reaped() -> bool:
        reconciler.tick()
        return state(database, job_id) == "queued"

    assert wait_until(reaped, what="the lost job to be queued again")


def test_after_a_database_outage_owners_have_one_lease_of_time_to_renew(
    database: Database, project_id: str, tmp_path: Path
) -> None:
    chosen = settings(tmp_path, 0.2)
    reconciler = Reconciler(chosen, database, from_settings(chosen), broker.connect(chosen), expiry.purge)
    reconciler.tick()
    job_id = lost_job(database, project_id)
    with database.writer.begin() as session:
        session.execute(text("ALTER TABLE jobs RENAME TO jobs_away"))
    with pytest.raises(SQLAlchemyError):
        reconciler.tick()
    with database.writer.begin() as session:
        session.execute(text("ALTER TABLE jobs_away RENAME TO jobs"))
    reconciler.tick()
    assert state(database, job_id) == "running"
    wait_until(lambda: reconciler.tick() or state(database, job_id) == "queued", what="the end of the grace")
