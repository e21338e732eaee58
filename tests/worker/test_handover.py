"""Real trainings that are paused, drained, cut off or timed out, and resume from their checkpoints."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import models
from models.io import checkpoint
from service.jobs.tables import Job
from service.shared.database import now
from tests.conftest import Service, wait_until
from tests.service.steps import dataset, pictures, problem, queue_run
from worker import supervisor

pytestmark = pytest.mark.slow

TRAINING = {"epochs": 300, "batch_size": 16, "validation_fraction": 0.1, "select": "last"}
SHORT = {**TRAINING, "epochs": 12}


@pytest.fixture(scope="module")
def ready(service: Service) -> Service:
    dataset(service, "data", **pictures(100))
    return service


def get(service: Service, run_id: str, path: str = "") -> Any:
    answer = service.http.get(f"/v1/runs/{run_id}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def while_it_trains(service: Service, run_id: str, change: Callable[[], object]) -> None:
    """Start a worker on the run, do `change` after its first epoch, and wait until the worker has no job left."""
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(supervisor.work, service.worker, "train")
        wait_until(lambda: working.done() or get(service, run_id)["progress"] > 0, 60, "the first epoch")
        change()
        working.result(120)


def post(service: Service, run_id: str, verb: str) -> Any:
    answer = service.http.post(f"/v1/runs/{run_id}/{verb}")
    assert answer.is_success, answer.text
    return answer.json()


def weights(service: Service, run: dict[str, Any]) -> dict[str, torch.Tensor]:
    version = service.http.get(f"/v1/models/{run['model']}/versions/{run['version']}").json()
    return checkpoint.read_weights(service.settings.artifacts / service.project_id / version["sha256"])


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_paused_run_resumes_with_the_same_result_as_without_a_pause(ready: Service) -> None:
    undisturbed = queue_run(ready, "data", "whole", training=TRAINING, seed=3)
    ready.work("train")
    run = queue_run(ready, "data", "paused", training=TRAINING, seed=3)
    while_it_trains(ready, run["id"], lambda: post(ready, run["id"], "pause"))
    paused = get(ready, run["id"])
    assert (paused["state"], paused["waiting_reason"], paused["failures"]) == ("paused", "it is paused", 0)
    (kept,) = get(ready, run["id"], "/checkpoints")["checkpoints"]
    assert kept["reason"] == "stopped"
    assert post(ready, run["id"], "resume")["state"] == "queued"
    ready.work("train")
    done, whole = get(ready, run["id"]), get(ready, undisturbed["id"])
    assert (done["state"], done["attempt"], done["error"]) == ("succeeded", 2, None)
    assert same(weights(ready, done), weights(ready, whole))
    steps = [point["step"] for point in get(ready, run["id"], "/metrics?points=10000")["metrics"]["loss"]]
    assert steps == sorted(set(steps))


def test_draining_worker_hands_its_training_to_another_worker(ready: Service) -> None:
    run = queue_run(ready, "data", "drained", training=TRAINING)
    while_it_trains(ready, run["id"], ready.worker.draining.set)
    given_back = get(ready, run["id"])
    assert (given_back["state"], given_back["preemptions"], given_back["failures"]) == ("queued", 1, 0)
    (kept,) = get(ready, run["id"], "/checkpoints")["checkpoints"]
    ready.worker.draining = threading.Event()
    ready.work("train")
    assert get(ready, run["id"])["state"] == "succeeded"
    messages = [event["message"] for event in get(ready, run["id"], "/events")["events"]]
    assert any(f"{kept['step']} of them done before" in message for message in messages)


def test_retry_resumes_from_the_last_checkpoint_of_the_cancelled_run(ready: Service) -> None:
    run = queue_run(ready, "data", "again", training=TRAINING, seed=4, tags=["a"], priority=2)
    while_it_trains(ready, run["id"], lambda: post(ready, run["id"], "cancel"))
    assert get(ready, run["id"])["state"] == "cancelled"
    again = post(ready, run["id"], "retry")
    assert (again["retry_of"], again["tags"], again["priority"], again["seed"]) == (run["id"], ["a"], 2, 4)
    ready.work("train")
    done = get(ready, again["id"])
    assert done["state"] == "succeeded"
    messages = [event["message"] for event in get(ready, again["id"], "/events")["events"]]
    assert any("of them done before" in message for message in messages)
    problem(ready.http.post(f"/v1/runs/{again['id']}/retry"), 409, "run_cannot_be_retried")


def test_damaged_checkpoint_is_skipped(ready: Service) -> None:
    run = queue_run(ready, "data", "damaged", training=SHORT | {"epochs": 300})
    while_it_trains(ready, run["id"], lambda: post(ready, run["id"], "pause"))
    (kept,) = get(ready, run["id"], "/checkpoints")["checkpoints"]
    stored = ready.settings.artifacts / ready.project_id / kept["sha256"]
    stored.write_bytes(stored.read_bytes()[:-9])
    post(ready, run["id"], "resume")
    ready.work("train")
    assert get(ready, run["id"])["state"] == "succeeded"


def test_run_that_exceeds_its_timeout_fails_and_keeps_its_checkpoint(ready: Service) -> None:
    run = queue_run(ready, "data", "late", training=TRAINING, timeout_seconds=1000)

    def let_time_pass() -> None:
        with ready.worker.database.writer.begin() as session:
            job = session.query(Job).order_by(Job.id.desc()).first()
            assert job is not None
            session.query(Job).filter(Job.id == job.id).update({"started_at": now(-1001.0)})

    while_it_trains(ready, run["id"], let_time_pass)
    late = get(ready, run["id"])
    assert (late["state"], late["error"]["code"]) == ("failed", "timeout")
    assert [kept["reason"] for kept in get(ready, run["id"], "/checkpoints")["checkpoints"]] == ["stopped"]


def test_checkpoints_can_be_downloaded_registered_and_trained_from(ready: Service) -> None:
    run = queue_run(ready, "data", "kept", training=SHORT | {"checkpoint_epochs": 4})
    ready.work("train")
    found = get(ready, run["id"], "/checkpoints")["checkpoints"]
    assert [kept["reason"] for kept in found] == ["epoch"] * 3
    step = found[1]["step"]
    content = ready.http.get(f"/v1/runs/{run['id']}/checkpoints/{step}/content").content
    assert len(content) == found[1]["size_bytes"]
    path = ready.settings.home / "downloaded"
    path.write_bytes(content)
    assert models.load(path).config.architecture == "mmvae"

    answer = ready.http.post("/v1/models/early/versions", json={"run": run["id"], "step": step})
    assert answer.json()["lineage"]["libraries"].keys() >= {"torch", "sensorium", "numpy"}
    assert answer.status_code == 201, answer.text
    version = answer.json()
    assert (version["version"], version["lineage"]["step"], version["sha256"]) == (1, step, found[1]["sha256"])
    label = ready.http.post("/v1/models/early/versions/1/reconstruct", json={"inputs": {"label": [0]}})
    assert label.status_code == 200, label.text

    warm = queue_run(ready, "data", "warm", training=SHORT, init_from={"model": "early", "version": 1})
    again = queue_run(ready, "data", "warm", training=SHORT, init_from={"run": run["id"], "step": step})
    ready.work("train")
    warm, again = get(ready, warm["id"]), get(ready, again["id"])
    assert (warm["state"], again["state"]) == ("succeeded", "succeeded")
    assert same(weights(ready, warm), weights(ready, again))

    still = {**SHORT, "epochs": 1, "learning_rate": 1e-30}
    unmoved = queue_run(ready, "data", "unmoved", training=still, init_from={"model": "early", "version": 1})
    ready.work("train")
    moved, kept = weights(ready, get(ready, unmoved["id"])), checkpoint.read_weights(path)
    for name in kept:
        if name.startswith(("encoders.", "decoders.")):
            torch.testing.assert_close(moved[name], kept[name], rtol=0, atol=1e-12)


def test_warm_start_from_another_architecture_is_refused_with_the_differences(ready: Service) -> None:
    run = queue_run(
        ready, "data", "narrow", training=SHORT, architecture={"architecture": "mmvae", "latent_features": 3}
    )
    ready.work("train")
    version = get(ready, run["id"])["version"]
    body = {"dataset": {"name": "data"}, "model": "m", "init_from": {"model": "narrow", "version": version}}
    answer = problem(ready.http.post("/v1/runs", json={**body, "training": SHORT}), 422, None)
    assert "latent_features is 3 there and 16 here" in answer["detail"]
    body["init_from"] = {"model": "narrow", "version": 99}
    problem(ready.http.post("/v1/runs", json={**body, "training": SHORT}), 404, "model_version_not_found")


def test_deleted_run_leaves_only_its_model_version(ready: Service) -> None:
    run = queue_run(ready, "data", "deleted", training=SHORT | {"checkpoint_epochs": 4}, seed=77)
    problem(ready.http.delete(f"/v1/runs/{run['id']}"), 409, "run_has_not_ended")
    ready.work("train")
    files = [kept["sha256"] for kept in get(ready, run["id"], "/checkpoints")["checkpoints"]]
    folder = ready.settings.artifacts / ready.project_id
    assert all((folder / name).exists() for name in files)
    assert ready.http.delete(f"/v1/runs/{run['id']}").status_code == 204
    problem(ready.http.get(f"/v1/runs/{run['id']}"), 404)
    assert not any((folder / name).exists() for name in files)
    assert ready.http.get("/v1/models/deleted/versions/1").status_code == 200


def test_run_on_two_devices_is_trained_by_two_processes_and_can_be_paused(ready: Service) -> None:
    run = queue_run(ready, "data", "two", training=TRAINING, devices=2)
    ready.work("train")
    assert get(ready, run["id"])["state"] == "queued"  # this worker has one device
    settings, ready.worker.settings = ready.worker.settings, ready.settings.model_copy(update={"cpu_devices": 2})
    try:
        while_it_trains(ready, run["id"], lambda: post(ready, run["id"], "pause"))
        assert get(ready, run["id"])["state"] == "paused"
        assert len(get(ready, run["id"], "/checkpoints")["checkpoints"]) == 1
        post(ready, run["id"], "resume")
        ready.work("train")
    finally:
        ready.worker.settings = settings
    assert get(ready, run["id"])["state"] == "succeeded"
