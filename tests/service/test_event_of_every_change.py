"""What users, engines and workers change is told by events of the project, over a whole service."""

from typing import Any

import numpy as np
from sqlalchemy import func, select

from service.shared.events import Event
from tests.conftest import Service, wait_until
from tests.service.steps import dataset, pictures, queue_dataset, queue_run
from tests.service.trained import bundle, install

Told = tuple[str, str, dict[str, Any]]


def newest(service: Service) -> int:
    """The id of the newest event of any project, 0 without one."""
    with service.worker.database.reader() as session:
        return session.scalar(select(func.max(Event.id))) or 0


def told(service: Service, since: int) -> list[Told]:
    """Type, resource and data of the project's newer events."""
    query = select(Event).where(Event.id > since, Event.project_id == service.project_id).order_by(Event.id)
    with service.worker.database.reader() as session:
        return [(event.type, event.resource_id, event.data) for event in session.scalars(query)]


def done(answer: Any) -> Any:
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def test_an_upload_and_a_dataset(service: Service) -> None:
    since = newest(service)
    version = dataset(service, "d1", **pictures())
    source = version["source"]["upload"]
    done(service.http.delete(f"/v1/uploads/{source}"))
    assert told(service, since) == [
        ("upload.created", source, {}),
        ("dataset_version.queued", "d1/1", {"attempt": 0}),
        ("dataset_version.started", "d1/1", {"attempt": 1}),
        ("dataset_version.succeeded", "d1/1", {"attempt": 1}),
        ("upload.deleted", source, {}),
    ]


def test_a_file_that_is_no_dataset(service: Service) -> None:
    arrays = pictures()
    arrays["image"][3, 0, 0] = np.nan
    since = newest(service)
    queue_dataset(service, "d2", **arrays)
    service.work("data")
    *_, (type, resource, data) = told(service, since)
    assert (type, resource, data["error"].keys()) == ("dataset_version.failed", "d2/1", {"code", "detail"})
    assert data["error"]["code"] == "dataset_rejected"


def test_a_run(service: Service) -> None:
    dataset(service, "d3", **pictures())
    since = newest(service)
    run = queue_run(service, "d3", "m3")["id"]
    done(service.http.patch(f"/v1/runs/{run}", json={"tags": ["a", "b"], "description": "text"}))
    done(service.http.patch(f"/v1/runs/{run}", json={"tags": ["b", "a"]}))  # changes nothing
    done(service.http.post(f"/v1/runs/{run}/pause"))
    done(service.http.post(f"/v1/runs/{run}/resume"))
    done(service.http.post(f"/v1/runs/{run}/cancel"))
    again = done(service.http.post(f"/v1/runs/{run}/retry"))["id"]
    done(service.http.delete(f"/v1/runs/{run}"))
    service.work("train")
    assert told(service, since) == [
        ("run.queued", run, {"attempt": 0}),
        ("run.changed", run, {"changed": ["tags", "description"]}),
        ("run.paused", run, {"attempt": 0}),
        ("run.requeued", run, {"attempt": 0, "reason": "resumed"}),
        ("run.cancelled", run, {"attempt": 0}),
        ("run.queued", again, {"attempt": 0}),
        ("run.deleted", run, {}),
        ("run.started", again, {"attempt": 1}),
        ("run.succeeded", again, {"attempt": 1}),
        ("model_version.created", "m3/1", {"run": again}),
    ]


def test_a_refused_request_is_no_event(service: Service) -> None:
    since = newest(service)
    assert service.http.post("/v1/runs", json={"dataset": {"name": "unheard"}, "model": "m"}).status_code == 404
    assert service.http.post("/v1/uploads", content=b"no file").status_code == 422
    assert told(service, since) == []


def test_the_deletion_of_a_dataset_cancels_what_makes_it(service: Service) -> None:
    queue_dataset(service, "d4", **pictures())
    since = newest(service)
    done(service.http.delete("/v1/datasets/d4", params={"force": True}))
    types = {type: resource for type, resource, _ in told(service, since)}
    assert types == {
        "dataset_version.cancelled": "d4/1",
        "dataset.deleted": "d4",
    }


def test_models_and_their_versions(service: Service) -> None:
    for seed in (0, 1):
        install(service, "m5", "pictures", seed)
    since = newest(service)
    base = "/v1/models/m5"
    done(service.http.patch(base, json={"description": "text"}))
    done(service.http.patch(base, json={"description": "text"}))  # changes nothing
    done(service.http.patch(f"{base}/versions/1", json={"tags": ["best"]}))
    done(service.http.delete(f"{base}/versions/1"))
    done(service.http.delete(f"{base}/versions/1"))  # changes nothing
    done(service.http.post(f"{base}/versions/1/restore"))
    done(service.http.delete(f"{base}/versions/1", params={"purge": True}))
    done(service.http.put(f"{base}/aliases/production", json={"version": 2}))
    done(service.http.delete(base))
    done(service.http.post(f"{base}/restore"))
    done(service.http.delete(base, params={"purge": True}))
    assert told(service, since) == [
        ("model.changed", "m5", {"changed": ["description"]}),
        ("model_version.changed", "m5/1", {"changed": ["tags"]}),
        ("model_version.deleted", "m5/1", {}),
        ("model_version.restored", "m5/1", {}),
        ("model_version.purged", "m5/1", {}),
        ("alias.created", "m5/production", {"version": 2}),
        ("alias.deleted", "m5/production", {}),
        ("model.deleted", "m5", {}),
        ("model.restored", "m5", {}),
        ("model_version.purged", "m5/2", {}),
        ("model.purged", "m5", {}),
    ]


def test_an_alias_that_moves_once_the_engines_are_ready(service: Service) -> None:
    for seed in (0, 1):
        install(service, "m6", "pictures", seed)
    since = newest(service)
    alias = "/v1/models/m6/aliases/production"
    done(service.http.put(alias, json={"version": 1}))
    done(service.http.put(alias, json={"version": 2}))
    wait_until(lambda: service.http.get(alias).json()["version"] == 2, 10, "the alias names version 2")
    done(service.http.delete(alias))
    assert told(service, since) == [
        ("alias.created", "m6/production", {"version": 1}),
        ("alias.changed", "m6/production", {"pending_version": 2}),
        ("alias.moved", "m6/production", {"version": 2}),
        ("alias.deleted", "m6/production", {}),
    ]


def test_a_bundle_that_is_imported(service: Service) -> None:
    bundle("pictures")  # trained in another service
    since = newest(service)
    install(service, "m7", "pictures")
    assert told(service, since) == [("model_version.created", "m7/1", {"run": None})]


def test_api_keys(service: Service) -> None:
    since = newest(service)
    key = done(service.http.post("/v1/api-keys", json={"name": "k"}))["id"]
    for _ in range(2):
        done(service.http.delete(f"/v1/api-keys/{key}"))
    assert told(service, since) == [("api_key.created", key, {}), ("api_key.revoked", key, {})]
