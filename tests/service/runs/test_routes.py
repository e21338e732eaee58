"""Runs over HTTP: submitted, trained by a real trainer process, followed and cancelled."""

import time
from typing import Any

import numpy as np
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from models.config import TrainingConfig
from models.config.presets import choose
from service.jobs import live_workers
from tests.conftest import Service
from tests.service.steps import dataset, fault, pictures, problem, queue_dataset, queue_run, tracks, train


def test_a_run_trains_and_makes_a_version(service: Service) -> None:
    dataset(service, "pictures", **pictures())
    run = train(service, "pictures", "trained", seed=5)
    assert (run["state"], run["error"], run["progress"], run["attempt"]) == ("succeeded", None, 1.0, 1)
    assert (run["version"], run["seed"], run["dataset"]) == (1, 5, {"name": "pictures", "version": 1})
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]
    assert np.isfinite(list(run["metrics"].values())).all()
    assert "loss" in run["metrics"]
    path = f"/v1/runs/{run['id']}"
    history = service.http.get(f"{path}/metrics").json()["metrics"]
    assert [point["epoch"] for point in history["loss"]] == [1]
    assert history["loss"][0]["value"] == run["metrics"]["loss"]
    assert list(service.http.get(f"{path}/metrics", params={"name": "loss"}).json()["metrics"]) == ["loss"]
    assert service.http.get(f"{path}/metrics", params={"name": "none"}).json() == {"metrics": {}}
    events = service.http.get(f"{path}/events").json()["events"]
    informed = [event["type"] for event in events if event["level"] == "info"]
    assert informed == ["queued", "started", "training", "succeeded"]
    later = service.http.get(f"{path}/events", params={"after": events[1]["id"], "page_size": 1}).json()
    assert later["events"] == [events[2]]
    token = {"page_token": later["next_page_token"], "page_size": 1}
    assert service.http.get(f"{path}/events", params=token).json()["events"] == [events[3]]
    log = service.http.get(f"{path}/logs")
    assert log.headers["content-type"].startswith("text/plain")
    assert "epoch 1/1" in log.text
    assert service.http.get(f"{path}/logs", params={"characters": 5}).text == log.text[-5:]
    evaluation = service.http.get(f"{path}/evaluation").json()
    assert [(e["observed"], e["target"]) for e in evaluation["matrix"]] == [
        (observed, target) for observed in (["image"], ["label"], ["image", "label"]) for target in ("image", "label")
    ]
    assert {event["type"] for event in events} >= {warning["type"] for warning in evaluation["warnings"]}
    version = service.http.get("/v1/models/trained/versions/1").json()
    assert version["lineage"]["run"] == run["id"]
    assert version["config"] == run["architecture"]
    assert (service.settings.artifacts / service.project_id / version["sha256"]).stat().st_size == version["size_bytes"]
    assert not list(service.settings.scratch.iterdir())
    problem(service.http.post(f"{path}/cancel"), 409, "job_has_ended")


def test_a_run_shows_the_defaults_it_will_use(service: Service) -> None:
    dataset(service, "defaults", **pictures())
    answer = service.http.post("/v1/runs", json={"dataset": {"name": "defaults"}, "model": "m"})
    run = answer.json()
    assert answer.headers["location"] == f"/v1/runs/{run['id']}"
    assert (run["state"], run["phase"], run["progress"], run["version"]) == ("queued", None, 0.0, None)
    assert run["architecture"]["architecture"] == "mmvae"
    assert [m["name"] for m in run["architecture"]["modalities"]] == ["image", "label"]
    assert run["training"]["epochs"] > 0
    assert service.http.get(f"/v1/runs/{run['id']}").json() == run
    service.http.post(f"/v1/runs/{run['id']}/cancel")


def test_cancel_of_a_queued_run_never_starts_a_trainer(service: Service) -> None:
    dataset(service, "cancelled", **pictures())
    run = queue_run(service, "cancelled", "never")
    answer = service.http.post(f"/v1/runs/{run['id']}/cancel")
    assert (answer.status_code, answer.json()["state"], answer.json()["cancel_requested"]) == (202, "cancelled", True)
    service.work("train")
    found = service.http.get(f"/v1/runs/{run['id']}").json()
    assert (found["state"], found["attempt"], found["started_at"]) == ("cancelled", 0, None)
    problem(service.http.get("/v1/models/never"), 404)
    problem(service.http.post(f"/v1/runs/{run['id']}/cancel"), 409, "job_has_ended")


def test_a_dataset_that_is_not_ready_cannot_be_trained_on(service: Service) -> None:
    queue_dataset(service, "early", **pictures())
    body = {"dataset": {"name": "early"}, "model": "m"}
    found = problem(service.http.post("/v1/runs", json=body), 409, "dataset_not_ready")
    assert "is validating, expected ready" in found["detail"]
    service.work("data")
    dataset(service, "early", a=np.array([np.nan, 1.0]))
    found = problem(service.http.post("/v1/runs", json=body), 409, "dataset_not_ready")
    assert "version 2 is rejected" in found["detail"]
    answer = service.http.post("/v1/runs", json={"dataset": {"name": "early", "version": 1}, "model": "m"})
    assert answer.status_code == 201
    service.http.post(f"/v1/runs/{answer.json()['id']}/cancel")


def test_an_unknown_dataset_version_or_run_is_not_found(service: Service) -> None:
    dataset(service, "here", **pictures())
    for reference, code in [
        ({"name": "gone"}, "dataset_not_found"),
        ({"name": "here", "version": 7}, "dataset_version_not_found"),
    ]:
        answer = service.http.post("/v1/runs", json={"dataset": reference, "model": "m"})
        assert problem(answer, 404)["code"] == code
    for path in ("", "/metrics", "/events", "/logs"):
        assert problem(service.http.get(f"/v1/runs/run_none{path}"), 404)["code"] == "run_not_found"
    assert problem(service.http.post("/v1/runs/run_none/cancel"), 404)["code"] == "run_not_found"


def test_an_architecture_for_another_kind_of_data_is_refused(service: Service) -> None:
    dataset(service, "static", **pictures())
    dataset(service, "sequences", {"kind": "sequence"}, **tracks())
    for name, architecture in [("static", "mmvrnn"), ("sequences", "mmvae")]:
        body = {"dataset": {"name": name}, "model": "m", "architecture": {"architecture": architecture}}
        assert fault(service.http.post("/v1/runs", json=body)) == ("/architecture/architecture", "wrong_kind")


def test_a_dataset_that_fits_no_architecture_is_refused_at_submission(service: Service) -> None:
    dataset(service, "deep", a=np.zeros((4, 1, 1, 1, 1, 1), dtype=np.float32))
    deep = problem(service.http.post("/v1/runs", json={"dataset": {"name": "deep"}, "model": "m"}), 422)
    assert "shape has 5 items, expected at most 4" in deep["detail"]
    dataset(service, "wide", **{f"m{n}": np.zeros(4) for n in range(61)})
    wide = problem(service.http.post("/v1/runs", json={"dataset": {"name": "wide"}, "model": "m"}), 422)
    assert "has 61 items, expected at most 60" in wide["detail"]


def test_an_impossible_training_fails_at_once_with_the_reason(service: Service) -> None:
    """Only held-out rows have the labels; the statistics do not show that."""
    dataset(service, "tiny", **pictures(8), **{"label.present": np.arange(8) < 2})
    run = train(service, "tiny", "none", training={"epochs": 1, "batch_size": 4, "validation_rows": [0, 1]})
    assert (run["state"], run["attempt"], run["error"]["code"]) == ("failed", 1, "unusable_data")
    assert "modality 'label' is absent from all 6 rows for training" in run["error"]["detail"]
    problem(service.http.get(f"/v1/runs/{run['id']}/evaluation"), 404, "evaluation_of_run_not_found")
    problem(service.http.get("/v1/models/none"), 404)


def test_all_misfits_with_the_dataset_are_reported_together_with_their_places(service: Service) -> None:
    dataset(service, "fitting", **pictures(8))
    request = {
        "dataset": {"name": "fitting"},
        "model": "m",
        "architecture": {
            "architecture": "mmvae",
            "modalities": {"sound": {}, "label": {"likelihood": "poisson"}, "image": {"network": {"name": "cnn"}}},
        },
    }
    answer = problem(service.http.post("/v1/runs", json=request), 422)
    assert {error["pointer"] for error in answer["errors"]} == {
        f"/architecture/modalities/{name}" for name in ("sound", "label", "image")
    }
    training = {"batch_size": 64, "modality_weights": {"sound": 1.0}, "early_stopping": {"metric": "accuracy"}}
    answer = problem(service.http.post("/v1/runs", json={**request, "architecture": None, "training": training}), 422)
    assert {error["pointer"] for error in answer["errors"]} == {
        "/training/batch_size",
        "/training/modality_weights/sound",
        "/training/early_stopping/metric",
    }


def test_a_run_on_samples_that_were_damaged_fails_at_once(service: Service) -> None:
    version = dataset(service, "flipped", **pictures(40))
    stored = service.settings.artifacts / service.project_id / version["sha256"]
    stored.write_bytes(stored.read_bytes()[:-1] + b"\7")
    run = train(service, "flipped", "none")
    assert (run["state"], run["attempt"], run["error"]["code"]) == ("failed", 1, "artifact_corrupt")


def test_runs_are_listed_newest_first_in_pages(service: Service) -> None:
    dataset(service, "listed", **pictures())
    ids = []
    for _ in range(3):
        made_at = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == made_at:
            pass
        ids.append(queue_run(service, "listed", "m")["id"])
    first = service.http.get("/v1/runs", params={"page_size": 2}).json()
    assert [run["id"] for run in first["runs"]] == [ids[2], ids[1]]
    second = service.http.get("/v1/runs", params={"page_size": 1, "page_token": first["next_page_token"]}).json()
    assert [run["id"] for run in second["runs"]] == [ids[0]]
    for id in ids:
        service.http.post(f"/v1/runs/{id}/cancel")


def test_query_parameters_out_of_range_are_refused(service: Service) -> None:
    dataset(service, "queried", **pictures())
    run = queue_run(service, "queried", "m")
    service.http.post(f"/v1/runs/{run['id']}/cancel")
    for path, place in [
        ("events?after=-1", "?after"),
        ("events?page_size=0", "?page_size"),
        ("logs?characters=0", "?characters"),
        ("logs?characters=x", "?characters"),
    ]:
        assert fault(service.http.get(f"/v1/runs/{run['id']}/{path}"))[0] == place
    unknown = service.http.get("/v1/runs", params={"stat": "failed", "page_size": 1})
    assert fault(unknown) == ("?stat", "unknown_parameter")
    assert service.http.get("/v1/runs", params={"state": "failed", "page_size": 1}).status_code == 200


def test_events_are_streamed_if_the_request_accepts_event_streams(service: Service) -> None:
    dataset(service, "streamed", **pictures())
    run = train(service, "streamed", "streamed")
    path = f"/v1/runs/{run['id']}/events"
    listed = service.http.get(path).json()["events"]
    accept = {"Accept": "text/event-stream"}
    whole = service.http.get(path, headers=accept)
    assert whole.headers["content-type"].startswith("text/event-stream")
    sent = [dict(line.split(": ", 1) for line in block.splitlines()) for block in whole.text.strip().split("\n\n")]
    assert [int(event["id"]) for event in sent] == [event["id"] for event in listed]
    assert [event["event"] for event in sent] == [event["type"] for event in listed]
    rest = service.http.get(path, headers={**accept, "Last-Event-ID": str(listed[1]["id"])}).text
    assert rest.count("\n\n") == len(listed) - 2
    problem(service.http.get("/v1/runs/run_none/events", headers=accept), 404)


def test_a_run_shows_its_configuration(service: Service) -> None:
    dataset(service, "asked", **pictures())
    run = queue_run(
        service, "asked", "m", preset="cross-modal", tags=["b", "a"], description="why", priority=-3, devices=2,
        max_attempts=5, timeout_seconds=60.5,
    )  # fmt: skip
    shown = {name: run[name] for name in ("tags", "description", "priority", "devices", "max_attempts")}
    assert shown == {"tags": ["a", "b"], "description": "why", "priority": -3, "devices": 2, "max_attempts": 5}
    assert (run["timeout_seconds"], run["preset"], run["queue_position"]) == (60.5, "cross-modal", 1)
    assert run["training"]["modality_dropout"] == {"strategy": "subsets", "probability": 0.8}
    assert run["training"]["epochs"] == 1  # named in the request, so it wins
    assert run["estimate"]["parameters"] > 0
    assert run["estimate"]["memory_bytes"] > 16 * run["estimate"]["parameters"]
    assert [found["id"] for found in service.http.get("/v1/runs", params={"tag": "b"}).json()["runs"]] == [run["id"]]
    problem(service.http.get("/v1/runs", params={"state": "asleep"}), 422)
    service.http.post(f"/v1/runs/{run['id']}/cancel")
    refused = {"dataset": {"name": "asked"}, "model": "m", "preset": "forecasting"}
    answer = service.http.post("/v1/runs", json=refused)
    assert fault(answer) == ("/preset", "misfit")
    assert "expected 'joint-embedding' or 'cross-modal'" in answer.json()["errors"][0]["detail"]


def test_a_run_that_names_only_its_dataset_gets_the_recommended_preset(service: Service) -> None:
    rows = 40
    held_out = {"split": np.array(["test"] * 10 + ["validation"] * 6 + ["training"] * 24)}
    dataset(service, "plain", {"kind": "sequence"}, **tracks(rows))
    dataset(service, "divided", {"kind": "sequence", "split": {"column": "split"}}, **tracks(rows), **held_out)
    for name, usable, validation in (("plain", rows, 0), ("divided", 30, 6)):
        run = service.http.post("/v1/runs", json={"dataset": {"name": name}, "model": "m"}).json()
        expected = choose(None, "sequence", 2, usable, {}, {}, validation)
        assert run["preset"] == expected.preset == "sequence-imputation"
        assert run["training"] == TrainingConfig.model_validate(expected.training).model_dump(mode="json")
        assert expected.architecture.items() <= run["architecture"].items()
        service.http.post(f"/v1/runs/{run['id']}/cancel")


def test_workers_that_are_alive_are_listed(service: Service) -> None:
    with service.worker.database.writer.begin() as session:
        live_workers.register(session, "host", 7, "train", ["cpu"], {"torch": "2"})
    (worker,) = service.http.get("/v1/workers").json()["workers"]
    assert (worker["host"], worker["queue"], worker["devices"], worker["busy"]) == ("host", "train", ["cpu"], False)


@pytest.mark.parametrize("moment", ["0004-01-03T00:02:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize("bound", ["runs?created_after", "runs?created_before", "audit-events?created_after"])
def test_a_time_before_or_after_all_ids_is_a_bound(service: Service, bound: str, moment: str) -> None:
    path, _, name = bound.partition("?")
    assert service.http.get(f"/v1/{path}", params={name: moment}).status_code == 200


@pytest.mark.parametrize(
    "moment", ["5", "0.5", "2026-03-01", "2026-03-01T12:00Z", "2026-13-01T12:00:00Z", "2026-03-01T12:00:00"]
)
def test_a_time_that_is_not_in_rfc_3339_is_refused(service: Service, moment: str) -> None:
    answer = service.http.get("/v1/runs", params={"created_after": moment})
    assert fault(answer) == ("?created_after", "wrong_format")


def test_the_log_of_a_run_has_the_id_of_its_request(service: Service) -> None:
    dataset(service, "traced", **pictures())
    body = {"dataset": {"name": "traced"}, "model": "traced", "training": {"epochs": 1}}
    run = service.http.post("/v1/runs", json=body, headers={"X-Request-ID": "req-of-mine"}).json()
    with capture_logs(processors=[merge_contextvars]) as worker:
        service.work("train")
    log = service.http.get(f"/v1/runs/{run['id']}/logs").text
    (line,) = [line for line in log.splitlines() if "epoch 1/1" in line]
    assert "request_id=req-of-mine" in line
    assert [entry["request_id"] for entry in worker if entry["event"] == "job_claimed"] == ["req-of-mine"]


@pytest.mark.parametrize(
    ("asked", "place", "detail"),
    [
        (
            {"preset": "sequence-imputation", "architecture": {"architecture": "mmvrnn", "inference": "filter"}},
            "/architecture",
            "static_latent_features is 8 with inference filter",
        ),
        (
            {"training": {"epochs": 3, "beta": {"schedule": "cyclical", "unit": "epochs", "cycles": 10}}},
            "/training",
            "beta has 10 cycles in 3 epochs",
        ),
        (
            {"architecture": {"architecture": "mmvrnn", "modalities": {"m1": {"likelihood": "poisson", "scale": 2}}}},
            "/architecture/modalities/m1",
            "modality 'm1' is poisson, which has no scale 2.0",
        ),
    ],
)
def test_contradictions_with_the_preset_have_error_messages_of_the_service(
    service: Service, asked: dict[str, Any], place: str, detail: str
) -> None:
    generated = {"name": "contradicted", "source": {"generator": {"name": "spirals", "rows": 20, "steps": 5}}}
    assert service.http.post("/v1/datasets", json=generated).status_code == 201
    service.work("data")
    answer = service.http.post("/v1/runs", json={"dataset": {"name": "contradicted"}, "model": "m", **asked})
    found = problem(answer, 422)["errors"][0]
    assert found["pointer"] == place
    assert detail in found["detail"]
    assert "Value error" not in answer.text
