"""Rows that other rows refer to, created by the operations of the service and its workers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import insert, select

from service.datasets import operations as datasets
from service.datasets import uploads
from service.datasets.schemas import DatasetRequest, UploadSource
from service.jobs import operations as jobs
from service.jobs.operations import Claim
from service.jobs.tables import Job
from service.runs import operations as runs
from service.runs.schemas import DatasetReference, RunRequest
from service.runs.tables import Run, RunLatestMetric
from service.shared.database import Database
from service.shared.npz import ArrayHeader
from service.shared.samples import ModalitySchema, Schema
from service.shared.storage import Stored
from service.shared.table_base import new_id

SCHEMA = Schema(kind="static", modalities=(ModalitySchema(name="a", shape=(2,), dtype="float32"),))


def uploaded(database: Database, project_id: str) -> str:
    """The id of an upload whose file does not exist."""
    with database.writer.begin() as session:
        arrays = [ArrayHeader("a", (100, 2), np.dtype("float32"))]
        return uploads.create(session, Stored(project_id, "0" * 64, 800), None, "npz", arrays).id


def ready_dataset(database: Database, project_id: str, name: str = "d") -> None:
    """A dataset version whose conversion has succeeded."""
    upload = uploaded(database, project_id)
    with database.writer.begin() as session:
        datasets.create_version(session, project_id, DatasetRequest(name=name, source=UploadSource(upload=upload)))
        claim = jobs.claim(session, datasets.QUEUE, "wrk_1", 60)
        assert claim is not None
        datasets.complete(session, claim.job_id, 100, SCHEMA, {}, [], Stored(project_id, "1" * 64, 900), None)
        jobs.succeed(session, claim)


def queued_run(database: Database, project_id: str, model: str = "m") -> str:
    """The id of a queued run."""
    ready_dataset(database, project_id)
    with database.writer.begin() as session:
        return runs.create(session, project_id, RunRequest(dataset=DatasetReference(name="d"), model=model)).run.id


def claimed_run(database: Database, project_id: str, model: str = "m") -> Claim:
    """The claim of a new run."""
    queued_run(database, project_id, model)
    with database.writer.begin() as session:
        claim = jobs.claim(session, runs.QUEUE, "wrk_1", 60)
    assert claim is not None
    return claim


def many_runs(
    database: Database,
    project_id: str,
    count: int,
    state: Callable[[int], str] = lambda number: "succeeded",
    **metrics: Callable[[int], float | None],
) -> list[str]:
    """The ids of many runs, oldest first, as copies of a run that the project has.

    state and metrics: of the n-th run.
    """
    jobs_of_runs = sorted(new_id("job") for _ in range(count))
    run_ids = [new_id("run") for _ in range(count)]
    running = {"owner": "wrk_1", "lease_expires_at": datetime.now(UTC) + timedelta(hours=1)}
    with database.writer.begin() as session:
        pattern = session.scalars(select(Run).where(Run.project_id == project_id).limit(1)).one()
        of_run = {c.name: getattr(pattern, c.name) for c in Run.__table__.columns if c.name not in ("id", "job_id")}
        for start in range(0, count, 5000):
            part = range(start, min(start + 5000, count))
            for wanted in sorted({state(number) for number in part}):
                of_job = {"project_id": project_id, "kind": "train", "queue": "train", "state": wanted, "attempt": 1}
                of_job |= running if wanted == "running" else {}
                rows = [{**of_job, "id": jobs_of_runs[number]} for number in part if state(number) == wanted]
                session.execute(insert(Job), rows)
            session.execute(
                insert(Run), [{**of_run, "id": run_ids[number], "job_id": jobs_of_runs[number]} for number in part]
            )
            for name, value in metrics.items():
                same = {"project_id": project_id, "name": name}
                rows = [{**same, "job_id": jobs_of_runs[number], "value": value(number)} for number in part]
                session.execute(insert(RunLatestMetric), rows)
    return run_ids
