"""Checks and corrections of a run at submission: few rows, splits, batches, devices."""

import math
from typing import Any

import numpy as np
import pytest

from tests.conftest import Service
from tests.service.steps import Body, dataset, fault, train

STATIC = {"architecture": "mmvae"}


def _rows(count: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 2)).astype(np.float32)
    return {"x": x, "y": 3 - 2 * x}


def _succeeded(service: Service, run: Body) -> Body:
    assert run["state"] == "succeeded", run["error"]
    assert run["attempt"] == 1
    assert all(value is not None and math.isfinite(value) for value in run["metrics"].values())
    found: Body = service.http.get(f"/v1/runs/{run['id']}/evaluation").json()
    return found


def _ask(service: Service, name: str, **fields: Any) -> Any:
    return service.http.post("/v1/runs", json={"dataset": {"name": name}, "model": name, **fields})


def test_two_rows_train_on_one_and_hold_out_the_other(service: Service) -> None:
    dataset(service, "two", **_rows(2))
    run = train(service, "two", "two", training={"epochs": 3})
    assert run["training"]["batch_size"] == 1
    assert "validation_loss" in run["metrics"]
    found = _succeeded(service, run)
    assert found["rows"] == {"split": "validation", "count": 1}
    assert "few_rows" in [warning["type"] for warning in found["warnings"]]


def test_a_small_fraction_holds_out_one_row_and_a_batch_may_be_a_single_row(service: Service) -> None:
    dataset(service, "twenty", **_rows(20))
    run = train(service, "twenty", "twenty", training={"epochs": 2, "validation_fraction": 0.01, "batch_size": 1})
    found = _succeeded(service, run)
    assert found["rows"] == {"split": "validation", "count": 1}
    assert math.isfinite(run["metrics"]["validation_loss"])
    points = service.http.get(f"/v1/runs/{run['id']}/metrics?name=loss").json()["metrics"]["loss"]
    assert [point["step"] for point in points] == [19, 38]


def test_sequences_of_one_step_train_with_every_kind_of_gap(service: Service) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 1, 2)).astype(np.float32)
    dataset(service, "instants", {"kind": "sequence"}, x=x, y=-x)
    training = {"epochs": 2, "burst_deletion": {"probability": 1.0, "longest": 1.0}, "deletion_mix": {}}
    found = _succeeded(service, train(service, "instants", "instants", training=training))
    assert found["rows"] == {"split": "validation", "count": 2}


def test_a_dataset_with_a_split_column_may_hold_out_no_rows(service: Service) -> None:
    split = np.array(["train"] * 6 + ["validation"] * 20 + ["test"] * 14)
    dataset(service, "split", {"split": {"column": "part"}}, part=split, **_rows(40))
    run = train(service, "split", "split", training={"epochs": 2, "validation_fraction": 0.0})
    assert run["training"]["early_stopping"] is None
    assert run["training"]["batch_size"] == 6
    assert "validation_loss" not in run["metrics"]
    assert _succeeded(service, run)["rows"]["split"] == "test"
    for training in ({}, {"validation_rows": []}, {"validation_rows": None}, {"validation_fraction": 0.0}):
        assert _ask(service, "split", training=training).status_code == 201
    answer = _ask(service, "split", training={"batch_size": 16})
    assert fault(answer) == ("/training/batch_size", "misfit")
    told = "the dataset has 40 rows, 6 of them for training (20 are held out, 14 are for tests)"
    assert answer.json()["errors"][0]["detail"] == f"{told}, expected at least one batch of 16"


def test_a_split_without_training_rows_is_refused(service: Service) -> None:
    dataset(service, "one", **_rows(1))
    assert _ask(service, "one").json()["training"]["validation_fraction"] == 0.0
    answer = _ask(service, "one", training={"validation_fraction": 0.5})
    assert fault(answer) == ("/training/validation_fraction", "misfit")
    assert "expected at least one to train on" in answer.json()["errors"][0]["detail"]
    answer = _ask(service, "two", training={"validation_rows": [0, 1]})
    assert fault(answer) == ("/training/validation_rows", "misfit")


def test_batches_have_a_row_for_each_device(service: Service) -> None:
    answer = _ask(service, "twenty", training={"batch_size": 6}, devices=4)
    assert fault(answer) == ("/training/batch_size", "misfit")
    assert "is 6 for 4 devices, expected at least 7" in answer.json()["errors"][0]["detail"]
    assert _ask(service, "twenty", training={"batch_size": 7}, devices=4).status_code == 201
    chosen = _ask(service, "twenty", devices=8)  # 16 rows remain for training
    assert chosen.status_code == 201
    assert chosen.json()["training"]["batch_size"] == 15
    assert fault(_ask(service, "twenty", devices=9)) == ("/training/batch_size", "misfit")


def test_more_cycles_than_steps_are_refused(service: Service) -> None:
    beta = {"schedule": "cyclical", "cycles": 5}
    answer = _ask(service, "twenty", training={"epochs": 2, "batch_size": 8, "beta": beta})
    assert fault(answer) == ("/training/beta/cycles", "misfit")
    assert "is 5, and the training has 4 steps" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "negative_binomial"])
def test_a_likelihood_that_gives_values_no_density_is_refused(service: Service, likelihood: str) -> None:
    architecture = {**STATIC, "modalities": {"x": {"likelihood": likelihood}}}
    answer = _ask(service, "twenty", architecture=architecture)
    assert fault(answer) == ("/architecture/modalities/x/likelihood", "misfit")
    assert f"and {likelihood} is for" in answer.json()["errors"][0]["detail"]
