"""The header fields `RateLimit-Policy` and `RateLimit` of responses to projects that have a limit."""

import asyncio
import re
import time

import httpx2 as httpx
import redis
from fastapi.testclient import TestClient

from service.access import operations as access
from service.access.quotas import Quotas
from service.access.rate_limiter import Limiter
from service.access.scopes import SCOPES, Scope
from service.shared.database import Database
from tests import servers
from tests.conftest import Service
from tests.service.steps import problem

LIMIT = re.compile(r'"requests_per_minute";r=(\d+);t=(\d+)')


def client(service: Service, per_minute: int | None, scopes: list[Scope] | None = None) -> TestClient:
    """A client of a new project with this limit."""
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        quotas = Quotas(requests_per_minute=per_minute)
        project = access.create_project(session, f"limited-{time.monotonic_ns()}", quotas)
        _, key = access.create_key(session, project.id, "k", scopes or SCOPES)
    database.close()
    return TestClient(service.http.app, headers={"Authorization": f"Bearer {key}"})


def limit(answer: httpx.Response) -> tuple[int, int]:
    """How many requests are left, and for how many seconds."""
    found = LIMIT.fullmatch(answer.headers["ratelimit"])
    assert found is not None, answer.headers
    return int(found[1]), int(found[2])


def test_responses_tell_the_policy_and_how_many_requests_are_left(service: Service) -> None:
    http = client(service, 5)
    answers = [http.get("/v1/runs") for _ in range(5)]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"requests_per_minute";q=5;w=60'}
    assert [limit(answer) for answer in answers] == [(left, 60) for left in (4, 3, 2, 1, 0)]
    refused = http.get("/v1/runs")
    problem(refused, 429, "rate_limited")
    assert limit(refused) == (0, int(refused.headers["retry-after"]))


def test_errors_of_authenticated_requests_have_the_fields_too(service: Service) -> None:
    http = client(service, 1000, ["read"])
    answers = [
        http.get("/v1/runs/run_none"),
        http.get("/v1/runs?unknown=1"),
        http.post("/v1/runs", json={}),
        http.post("/v1/models/m/versions/1/encode", json={"inputs": {}}),
    ]
    assert [answer.status_code for answer in answers] == [404, 422, 403, 403]
    assert all(limit(answer)[0] < 1000 for answer in answers)


def test_responses_without_a_limit_or_a_key_have_no_fields(service: Service) -> None:
    http = client(service, None)
    anonymous = TestClient(service.http.app)
    for answer in (http.get("/v1/runs"), anonymous.get("/v1/runs"), anonymous.get("/healthz")):
        assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)


def test_every_request_of_a_reservation_lowers_the_rest_by_one() -> None:
    limiter = Limiter(None)

    async def ask() -> list[int]:
        rest = []
        for _ in range(25):  # 10 of 1,000 are reserved at a time
            if not limiter.take("prj_1"):
                await limiter.count("prj_1", 1000)
            rest.append(limiter.remaining("prj_1"))
        return rest

    assert asyncio.run(ask()) == list(range(999, 974, -1))


def test_what_other_processes_took_is_known_with_the_next_reservation(redis_url: str) -> None:
    redis.Redis.from_url(redis_url).flushall()
    one, other = Limiter(redis_url), Limiter(redis_url)

    async def ask() -> list[int]:
        rest = []
        for _ in range(3):
            await one.count("prj_1", 10)
            rest.append(one.remaining("prj_1"))
            await other.count("prj_1", 10)
        return rest

    assert asyncio.run(ask()) == [9, 7, 5]


def test_without_redis_the_rest_of_this_process_is_told() -> None:
    limiter = Limiter(f"redis://127.0.0.1:{servers.free_port()}/0")

    async def ask() -> int:
        await limiter.count("prj_1", 4)
        return limiter.remaining("prj_1")

    assert asyncio.run(ask()) == 3


NOT_COUNTED = ("401", "408", "431", "501")
DEPENDING = ("400", "413", "415", "500")
"""Whether the request was counted depends on the code."""


def test_the_document_describes_the_fields_at_operations_that_need_a_key(service: Service) -> None:
    document = service.http.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                names = set(response.get("headers", {}))
                if status not in DEPENDING:
                    expected = bool(operation.get("security")) and status not in NOT_COUNTED
                    assert ({"RateLimit-Policy", "RateLimit"} <= names) == expected, (path, status)
                assert ("Retry-After" in names) == (status in ("429", "503")), (path, status)
    for name in ("RateLimit-Policy", "RateLimit", "Retry-After"):
        assert document["components"]["headers"][name]["description"]
