"""Rows that other rows refer to, created by the operations of the service and its workers."""

import numpy as np

from service.datasets import operations as datasets
from service.datasets import uploads
from service.datasets.schemas import DatasetRequest, UploadSource
from service.jobs import operations as jobs
from service.jobs.operations import Claim
from service.runs import operations as runs
from service.runs.schemas import DatasetReference, RunRequest
from service.shared.database import Database
from service.shared.npz import ArrayHeader
from service.shared.samples import ModalitySchema, Schema
from service.shared.storage import Stored

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
