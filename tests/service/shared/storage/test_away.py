"""While the object store does not answer, requests get 503 with Retry-After, and jobs are retried."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from service.access import operations as access
from service.app import create_app
from service.jobs.tables import Job
from service.shared import broker, storage
from service.shared.database import Database
from service.shared.settings import Settings
from tests import fork_server, schema
from tests.conftest import Service, wait_until
from tests.service.files import packed
from tests.service.steps import problem, queue_dataset
from worker.child_process import Launcher
from worker.worker_state import WorkerState


@pytest.fixture
def service(s3_settings: Settings) -> Iterator[Service]:
    """A service whose artifacts are in S3."""
    settings = s3_settings.model_copy(update={"heartbeat_seconds": 0.2, "retry_seconds": 0.5})
    settings.home.mkdir()
    schema.install(settings.database_url)
    database = Database(settings.database_url)
    with database.writer.begin() as session:
        project = access.create_project(session, "test").id
        _, key = access.create_key(session, project, "test")
    store, launcher = storage.from_settings(settings), Launcher(settings.log_bytes, start=fork_server.start)
    worker = WorkerState(settings, database, store, broker.connect(settings), "wrk_test", launcher)
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"}) as http:
        yield Service(settings, http, project, key, worker)
    database.close()


def away(service: Service) -> Settings:
    """The settings of the same service with a store that refuses connections, and without local copies."""
    return service.settings.model_copy(
        update={
            "s3_endpoint": "http://127.0.0.1:9",
            "home": service.settings.home / "elsewhere",
            "database": service.settings.database_url,
        }
    )


def test_an_upload_is_answered_with_503(service: Service) -> None:
    file = packed(x=np.ones((20, 2), np.float32))
    with TestClient(create_app(away(service)), headers={"Authorization": f"Bearer {service.key}"}) as http:
        answer = http.post("/v1/uploads", content=file)
    detail = problem(answer, 503, "storage_unavailable")["detail"]
    assert re.fullmatch("s3://artifacts[^ ]* did not store [^ ]+; try again", detail), detail
    assert answer.headers["retry-after"]


def test_a_job_is_retried_until_the_store_answers(service: Service) -> None:
    queue_dataset(service, "kept", x=np.ones((20, 2), np.float32))
    there = service.worker.storage
    service.worker.storage = storage.from_settings(away(service))
    service.work("data")
    assert state(service) == "validating"
    with service.worker.database.reader() as session:
        (job,) = session.scalars(select(Job))
        assert (job.state, job.failures) == ("queued", 1)
    service.worker.storage = there

    def is_ready() -> bool:
        service.work("data")
        return state(service) == "ready"

    wait_until(is_ready, what="the dataset ready")


def state(service: Service) -> str:
    """The state of the dataset."""
    return str(service.http.get("/v1/datasets/kept/versions/1").json()["state"])
