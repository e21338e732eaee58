"""Steps of a caller over HTTP, with checks of every response."""

from typing import Any

import numpy as np

from tests.conftest import Service
from tests.service.files import Array, packed

Body = dict[str, Any]


def upload(service: Service, content: bytes) -> str:
    """Upload a valid file; returns its id."""
    answer = service.http.post("/v1/uploads", content=content)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def queue_dataset(service: Service, name: str, declaration: Body | None = None, **arrays: Array) -> Body:
    """Request a dataset version of these arrays; no worker has converted it yet."""
    source = {"upload": upload(service, packed(**arrays))}
    answer = service.http.post("/v1/datasets", json={"name": name, "source": source, "schema": declaration or {}})
    assert answer.status_code == 201, answer.text
    version: Body = answer.json()
    return version


def dataset(service: Service, name: str, declaration: Body | None = None, **arrays: Array) -> Body:
    """A dataset version after its conversion by a worker."""
    version = queue_dataset(service, name, declaration, **arrays)
    service.work("data")
    found: Body = service.http.get(f"/v1/datasets/{name}/versions/{version['version']}").json()
    return found


def queue_run(service: Service, dataset: str, model: str, **fields: Any) -> Body:
    """Request a short training; no worker has claimed it yet."""
    training = {"epochs": 1, "batch_size": 16, "validation_fraction": 0.1}
    request = {"dataset": {"name": dataset}, "model": model, "training": training, **fields}
    answer = service.http.post("/v1/runs", json=request)
    assert answer.status_code == 201, answer.text
    run: Body = answer.json()
    return run


def train(service: Service, dataset: str, model: str, **fields: Any) -> Body:
    """A run after its training by a worker."""
    run = queue_run(service, dataset, model, **fields)
    service.work("train")
    found: Body = service.http.get(f"/v1/runs/{run['id']}").json()
    return found


def problem(answer: Any, status: int, code: str | None = None) -> Body:
    """The body of an answer that must be a problem of this status and code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: Body = answer.json()
    if str(answer.url.path).startswith("/v2"):  # what clients of the Open Inference Protocol read
        assert body.pop("error") == body["detail"]
    assert body.keys() == {"type", "title", "status", "detail", "code", "request_id", "errors"}
    assert body["status"] == status
    assert body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    if code is not None:
        assert body["code"] == code, body
    return body


def fault(answer: Any, status: int = 422) -> tuple[str, str]:
    """Pointer and code of the first fault of a problem."""
    errors = problem(answer, status)["errors"]
    assert errors, answer.text
    assert all(found.keys() == {"pointer", "code", "detail"} and found["detail"] for found in errors)
    return errors[0]["pointer"], errors[0]["code"]


def pictures(rows: int = 100) -> dict[str, Array]:
    """Static rows: an image that determines the label."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, rows)
    image = generator.normal(size=(rows, 2, 2)) + label[:, None, None]
    return {"image": image.astype(np.float32), "label": label}


def tracks(rows: int = 60, steps: int = 6) -> dict[str, Array]:
    """Sequences of different lengths: y follows x."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, steps, 2)).cumsum(axis=1).astype(np.float32)
    lengths = generator.integers(2, steps + 1, rows)
    return {"x": x, "y": -x[:, :, :1], "x.lengths": lengths, "y.lengths": lengths}
