"""Rate limits and quotas of a project, and the errors when they are exceeded."""

import asyncio
import time

import numpy as np
import pytest
import redis
from fastapi.testclient import TestClient

from service.access import operations as access
from service.access.quotas import Quotas
from service.access.rate_limiter import Limiter
from service.app import create_app
from service.jobs import operations as jobs
from service.runs import operations as runs
from service.shared.database import Database
from service.shared.errors import TooMany
from service.shared.settings import Settings
from tests import servers
from tests.conftest import Service
from tests.service.rows import queued_run
from tests.service.steps import dataset, pictures, problem, queue_run, train


def client(service: Service, quotas: Quotas) -> TestClient:
    """A client of a new project with these limits."""
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        project = access.create_project(session, f"limited-{time.monotonic_ns()}", quotas)
        _, key = access.create_key(session, project.id, "k")
    database.close()
    return TestClient(service.http.app, headers={"Authorization": f"Bearer {key}"})


def test_requests_above_the_rate_limit_get_a_retry_after(service: Service) -> None:
    http = client(service, Quotas(requests_per_minute=5))
    answers = [http.get("/v1/runs") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert problem(answers[-1], 429)["code"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert service.http.get("/v1/runs").status_code == 200


def test_queued_runs_of_a_project_are_limited(service: Service) -> None:
    database = Database(service.settings.database_url)
    dataset(service, "pictures", **pictures())
    app = create_app(service.settings.model_copy(update={"project_queued_runs": 1}))
    with TestClient(app, headers={"Authorization": f"Bearer {service.key}"}) as http:
        body = {"dataset": {"name": "pictures"}, "model": "m"}
        assert http.post("/v1/runs", json=body).status_code == 201
        answer = http.post("/v1/runs", json=body)
        assert problem(answer, 429, "too_many_queued_runs")
        assert int(answer.headers["retry-after"]) >= 1
    service.work("train")
    database.close()


def test_rows_per_request_of_a_project_are_limited(service: Service) -> None:
    dataset(service, "rows", **pictures())
    train(service, "rows", "rows")
    app = create_app(service.settings.model_copy(update={"project_request_rows": 2}))
    with TestClient(app, headers={"Authorization": f"Bearer {service.key}"}) as http:
        path = "/v1/models/rows/versions/1/encode"
        assert http.post(path, json={"inputs": {"label": [1, 2]}}).status_code == 200
        answer = http.post(path, json={"inputs": {"label": [1, 2, 0]}})
        problem(answer, 413, "too_many_rows")
        assert "retry-after" not in answer.headers


def test_a_project_above_its_storage_quota_creates_no_datasets(service: Service) -> None:
    dataset(service, "stored", a=np.arange(50.0))
    app = create_app(service.settings.model_copy(update={"project_stored_bytes": 10}))
    with TestClient(app, headers={"Authorization": f"Bearer {service.key}"}) as http:
        body = {"name": "more", "source": {"generator": {"name": "spirals", "rows": 2, "steps": 2}}}
        problem(http.post("/v1/datasets", json=body), 507, "quota_exceeded")
    problem(service.http.get("/v1/datasets/more"), 404)


def test_runs_above_the_running_limit_wait_while_other_projects_run(database: Database, project_id: str) -> None:
    settings = Settings(project_running_runs=1)
    queued_run(database, project_id)
    queued_run(database, project_id)
    with database.writer.begin() as session:
        other = access.create_project(session, "other").id
    queued_run(database, other)

    def claim() -> str | None:
        with database.writer.begin() as session:
            claimed = jobs.claim(session, runs.QUEUE, "wrk_1", 60, 1, runs.running_limit(settings))
        return claimed and claimed.project_id

    assert {claim(), claim()} == {project_id, other}
    assert claim() is None


@pytest.fixture
def together(redis_url: str) -> tuple[Limiter, Limiter]:
    """The limiters of two processes that share a Redis."""
    redis.Redis.from_url(redis_url).flushall()
    return Limiter(redis_url), Limiter(redis_url)


def test_processes_count_together_in_redis(together: tuple[Limiter, Limiter]) -> None:
    async def ask() -> int:
        allowed = 0
        for number in range(12):
            try:
                await together[number % 2].count("prj_1", 6)
            except TooMany:
                continue
            allowed += 1
        return allowed

    assert asyncio.run(ask()) == 6


def test_without_redis_every_process_counts_separately() -> None:
    limiter = Limiter(f"redis://127.0.0.1:{servers.free_port()}/0")

    async def ask() -> None:
        for _ in range(4):
            await limiter.count("prj_1", 4)
        with pytest.raises(TooMany):
            await limiter.count("prj_1", 4)

    asyncio.run(ask())


def test_reserved_requests_never_exceed_the_limit(redis_url: str) -> None:
    """Each process reserves 10 of 1000 requests per minute; three processes get at most 1000 together."""
    redis.Redis.from_url(redis_url).flushall()
    limiters = [Limiter(redis_url) for _ in range(3)]

    async def ask() -> int:
        allowed = 0
        for number in range(1300):
            try:
                await limiters[number % 3].count("prj_many", 1000)
            except TooMany:
                continue
            allowed += 1
        return allowed

    assert 970 <= asyncio.run(ask()) <= 1000


def test_a_project_without_a_limit_is_not_limited(service: Service) -> None:
    assert Settings().project_requests_per_minute is None
    assert queue_run(service, "pictures", "unlimited")["state"] == "queued"
    service.work("train")


def test_concurrent_requests_share_one_reservation() -> None:
    """One reservation per concurrent request would use up the minute's limit."""

    async def count() -> None:
        limiter = Limiter(None)
        await asyncio.gather(*(limiter.count("prj_1", 1000) for _ in range(300)))
        for _ in range(700):
            await limiter.count("prj_1", 1000)
        with pytest.raises(TooMany):
            await limiter.count("prj_1", 1000)

    asyncio.run(count())
