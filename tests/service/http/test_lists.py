"""Every list of the API pages alike, and filters by time alike where its items have the time of their creation."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.jobs import live_workers
from service.runs import training
from service.runs.training import Origin
from service.shared.storage import Stored
from tests.conftest import Service
from tests.service.steps import dataset, pictures, problem, train

PAGE = {"page_size", "page_token"}
TIMES = {"created_after", "created_before"}
WITHOUT_TIMES = {"list_workers", "list_aliases"}


@pytest.fixture(scope="module")
def lists(service: Service) -> dict[str, tuple[str, str]]:
    """Operation id -> path and field of every list, over a project that has two items or more in each."""
    for _ in range(2):
        dataset(service, "d", **pictures())
    dataset(service, "e", **pictures())
    run, _, _ = (train(service, "d", model) for model in ("m", "m", "n"))
    file = Stored(service.project_id, "2" * 64, 5)
    with service.worker.database.writer.begin() as session:
        for step in range(3):
            training.record_checkpoint(session, run["id"], 1, file, None, step, "epoch", Origin({}, None))
    for alias in ("a", "b"):
        assert service.http.put(f"/v1/models/m/aliases/{alias}", json={"version": 1}).status_code == 201
    service.http.post("/v1/api-keys", json={"name": "second"})
    with service.worker.database.writer.begin() as session:
        for pid in range(2):
            live_workers.register(session, "host", pid, "train", ["cpu"], {})
    document = service.http.get("/openapi.json").json()
    found = {}
    for path, operations in document["paths"].items():
        name = "m" if "/models/" in path else "d"
        get = operations.get("get", {})
        parameters = {one["name"] for one in get.get("parameters", ())}
        if parameters >= PAGE:
            schema = get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            properties = set(document["components"]["schemas"][schema]["properties"])
            assert "next_page_token" in properties, path
            (field,) = properties - {"next_page_token"}
            found[get["operationId"]] = (path.replace("{name}", name).replace("{run_id}", run["id"]), field)
            assert (parameters >= TIMES) == (get["operationId"] not in WITHOUT_TIMES), path
    return found


def test_every_operation_that_returns_a_list_of_resources_has_pages(
    service: Service, lists: dict[str, tuple[str, str]]
) -> None:
    document = service.http.get("/openapi.json").json()
    names = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    # the table of error codes is fixed, and readers want all of it
    assert {name for name in names if name.startswith("list_")} - {"list_errors"} <= lists.keys()
    assert len(lists) >= 11


def _pages(service: Service, path: str, field: str, **query: Any) -> Iterator[list[Any]]:
    token: dict[str, str] = {}
    while True:
        answer = service.http.get(path, params={**query, **token})
        assert answer.status_code == 200, answer.text
        yield answer.json()[field]
        if (following := answer.json()["next_page_token"]) is None:
            return
        token = {"page_token": following}


def test_pages_of_one_item_make_the_whole_list(service: Service, lists: dict[str, tuple[str, str]]) -> None:
    for name, (path, field) in lists.items():
        pages = list(_pages(service, path, field, page_size=1))
        (whole,) = _pages(service, path, field, page_size=200)
        assert [item for page in pages for item in page] == whole, name
        assert {len(page) for page in pages} == {1}, name
        if name != "list_projects":
            assert len(pages) > 1, name
        problem(service.http.get(path, params={"page_token": "nothing"}), 400, "invalid_page_token")


def test_times_include_the_first_and_leave_out_the_last_moment(
    service: Service, lists: dict[str, tuple[str, str]]
) -> None:
    for name, (path, field) in lists.items():
        if name in WITHOUT_TIMES:
            continue
        (whole,) = _pages(service, path, field, page_size=200)
        times = [datetime.fromisoformat(item["created_at"]) for item in whole]
        for time in (min(times), max(times)):
            bounds = {
                "created_after": [item for item, created in zip(whole, times, strict=True) if created >= time],
                "created_before": [item for item, created in zip(whole, times, strict=True) if created < time],
            }
            for bound, expected in bounds.items():
                (found,) = _pages(service, path, field, page_size=200, **{bound: time.isoformat()})
                assert found == expected, (name, bound)
        period = {"created_after": min(times).isoformat(), "created_before": (max(times) + timedelta(1)).isoformat()}
        assert [item for page in _pages(service, path, field, page_size=1, **period) for item in page] == whole, name
