"""Runs on data with a rare modality, from the upload to inference of that modality."""

import math

import numpy as np

from tests.conftest import Service
from tests.service.files import Array
from tests.service.steps import Body, dataset, train


def _succeeded(service: Service, run: Body) -> Body:
    """The evaluation of a run that must have succeeded at once, with figures that are finite."""
    assert run["state"] == "succeeded", run["error"]
    assert run["attempt"] == 1
    assert run["metrics"]
    assert all(value is not None and math.isfinite(value) for value in run["metrics"].values())
    answer = service.http.get(f"/v1/runs/{run['id']}/evaluation")
    assert answer.status_code == 200
    found: Body = answer.json()
    assert found["elbo"] is not None
    assert found["iwae_64"] is not None
    return found


def _root_mean_square(error: Array) -> float:
    return float(np.sqrt(np.square(error).mean()))


def test_a_scan_that_one_patient_in_two_hundred_has_is_predicted(service: Service) -> None:
    generator = np.random.default_rng(0)
    code = generator.normal(size=(2000, 1))
    blood = (code + 0.1 * generator.normal(size=(2000, 2))).astype(np.float32)
    scan = (30 + 8 * code + generator.normal(size=(2000, 3))).astype(np.float32)
    has = np.arange(2000) % 200 == 0
    version = dataset(service, "hospital", blood=blood, scan=scan, **{"scan.present": has})
    assert version["state"] == "ready"
    training = {"epochs": 10, "batch_size": 64, "learning_rate": 2e-2}
    run = train(service, "hospital", "hospital", training=training)
    found = _succeeded(service, run)
    blood_alone = next(e for e in found["matrix"] if e["observed"] == ["blood"] and e["target"] == "blood")
    assert blood_alone["error"] < 0.5 * blood_alone["baseline_error"]
    asked = {"inputs": {"blood": blood[1:200].tolist()}, "targets": ["scan"]}
    answer = service.http.post("/v1/models/hospital/versions/1/reconstruct", json=asked)
    assert answer.status_code == 200
    predicted = np.array(answer.json()["outputs"]["scan"]["mean"])
    error = _root_mean_square(predicted - scan[1:200])
    assert error < 0.9 * _root_mean_square(scan[1:200] - scan.mean(axis=0))


def test_two_cohorts_that_share_no_modality_make_a_model(service: Service) -> None:
    generator = np.random.default_rng(1)
    code = generator.normal(size=120)
    counts = generator.poisson(np.exp(2 + code[:, None].clip(-1, 1)), size=(120, 2))
    answers = (code[:, None] + 0.1 * generator.normal(size=(120, 3)) > 0).astype(np.int64)
    first = np.arange(120) < 60
    version = dataset(
        service, "cohorts", counts=counts, answers=answers, **{"counts.present": first, "answers.present": ~first}
    )
    assert version["state"] == "ready"
    run = train(service, "cohorts", "cohorts", training={"epochs": 3, "batch_size": 8, "validation_fraction": 0.2})
    assert [each["likelihood"] for each in run["architecture"]["modalities"]] == ["bernoulli", "negative_binomial"]
    found = _succeeded(service, run)
    together = [entry for entry in found["matrix"] if len(entry["observed"]) == 2]
    assert together
    assert all(entry["values"] == 0 and entry["error"] is None for entry in together)


def test_a_sensor_that_six_sequences_have_makes_a_model(service: Service) -> None:
    generator = np.random.default_rng(2)
    walk = generator.normal(size=(60, 5, 2)).cumsum(axis=1).astype(np.float32)
    alarm = (walk[:, :, :1] > 0).astype(np.int64)
    has = np.arange(60) % 10 == 5
    version = dataset(service, "wards", {"kind": "sequence"}, walk=walk, alarm=alarm, **{"alarm.present": has})
    assert version["state"] == "ready"
    run = train(service, "wards", "wards", training={"epochs": 3, "batch_size": 5, "deletion_mix": {}})
    found = _succeeded(service, run)
    walked = next(e for e in found["matrix"] if e["observed"] == ["walk"] and e["target"] == "walk")
    assert walked["error"] < walked["baseline_error"]
