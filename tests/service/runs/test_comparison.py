"""Runs side by side, on both databases and over HTTP."""

import math
from typing import Any

import pytest

from models.config import TrainingConfig
from service.runs import comparison, training
from service.runs import operations as runs
from service.runs.group_schemas import RunComparison
from service.runs.schemas import DatasetReference, RunRequest
from service.runs.tables import Run
from service.shared.database import Database
from service.shared.errors import BadInput, NotFound
from tests.conftest import Service
from tests.service.rows import queued_run, ready_dataset
from tests.service.steps import dataset, fault, pictures, problem, queue_run, train


def compared(database: Database, project_id: str, *run_ids: str) -> RunComparison:
    with database.reader() as session:
        return comparison.compare(session, project_id, run_ids)


def queued(database: Database, project_id: str, **fields: Any) -> str:
    with database.writer.begin() as session:
        return runs.create(session, project_id, RunRequest(dataset=DatasetReference(name="d"), **fields)).run.id


def test_only_places_that_differ_are_listed_as_json_pointers(database: Database, project_id: str) -> None:
    ready_dataset(database, project_id)
    one = queued(database, project_id, model="m", seed=3, training=TrainingConfig(epochs=7), tags=["not-compared"])
    two = queued(database, project_id, model="m", training=TrainingConfig(epochs=9), priority=1, description="nor this")
    three = queued(database, project_id, model="n", training=TrainingConfig(epochs=9, gradient_clip_norm=2.0))
    found = compared(database, project_id, one, two, three)
    values = {one.pointer: one.values for one in found.configuration}
    assert values.pop("/model") == {one: "m", two: "m", three: "n"}
    assert values.pop("/seed") == {one: 3, two: 0, three: 0}
    assert values.pop("/priority") == {one: 0, two: 1, three: 0}
    assert values.pop("/training/epochs") == {one: 7, two: 9, three: 9}
    assert values.pop("/training/gradient_clip_norm")[three] == 2.0
    assert values == {}
    assert [(run.id, run.state, run.model, run.version) for run in found.runs] == [
        (one, "queued", "m", None), (two, "queued", "m", None), (three, "queued", "n", None),
    ]  # fmt: skip
    assert compared(database, project_id, three, one).runs[0].id == three


def test_a_place_that_a_run_lacks_has_no_value_for_it(database: Database, project_id: str) -> None:
    one = queued_run(database, project_id)
    weights = TrainingConfig(modality_weights={"a": 2.0})
    two = queued(database, project_id, model="m", training=weights)
    found = {one.pointer: one.values for one in compared(database, project_id, one, two).configuration}
    assert found == {"/training/modality_weights": {one: None}, "/training/modality_weights/a": {two: 2.0}}


def test_a_list_of_plain_values_is_one_place_and_names_are_escaped() -> None:
    config = {"sizes": [8, 4], "a/b~c": [{"x": None}, {"x": []}], "nothing": {}}
    assert dict(comparison.leaves(config)) == {
        "/sizes": [8, 4],
        "/a~1b~0c/0/x": None,
        "/a~1b~0c/1/x": [],
        "/nothing": {},
    }


def test_metrics_and_evaluation_cells_stand_side_by_side(database: Database, project_id: str) -> None:
    one = queued_run(database, project_id)
    two, three = (queued(database, project_id, model="m") for _ in range(2))
    cell = {"metric": "error_rate", "values": 9, "baseline_error": 0.9, "log_likelihood": None, "coverage_90": None}
    with database.writer.begin() as session:
        training.record_metrics(session, one, 1, 1, 1, {"loss": 2.0, "kl": 1.0})
        training.record_metrics(session, one, 1, 2, 2, {"loss": 1.5})
        training.record_metrics(session, two, 1, 1, 1, {"loss": math.nan})
        for run_id, targets in ((one, ("a", "b")), (two, ("b",))):
            matrix = [{"observed": ["a"], "target": name, "error": 0.1 * len(targets), **cell} for name in targets]
            session.get_one(Run, run_id).evaluation = {"matrix": matrix}
    found = compared(database, project_id, one, two, three)
    assert [(one.name, one.values) for one in found.metrics] == [
        ("kl", {one: 1.0}),
        ("loss", {one: 1.5, two: None}),
    ]
    assert [(cell.observed, cell.target, cell.metric, list(cell.runs)) for cell in found.evaluation] == [
        (["a"], "a", "error_rate", [one]),
        (["a"], "b", "error_rate", [one, two]),
    ]
    assert [figures.error for figures in found.evaluation[1].runs.values()] == [0.2, 0.1]
    assert found.configuration == []


def test_all_runs_that_the_project_lacks_are_named_at_once(database: Database, project_id: str) -> None:
    own = queued_run(database, project_id)
    with pytest.raises(NotFound, match="there is no run 'run_1' in this project") as refused:
        compared(database, project_id, "run_1", own, "run_2")
    assert refused.value.code == "run_not_found"
    assert ["run_1" in one.detail or "run_2" in one.detail for one in refused.value.faults] == [True, True]
    with pytest.raises(NotFound):
        compared(database, "prj_other", own, "run_1")


def test_a_repeated_run_is_refused(database: Database, project_id: str) -> None:
    own = queued_run(database, project_id)
    with pytest.raises(BadInput, match="is given 3 times, expected once") as refused:
        compared(database, project_id, own, "run_1", own, own)
    assert [one.pointer for one in refused.value.faults] == ["?run"]


def test_trained_runs_are_compared_over_http(service: Service) -> None:
    dataset(service, "compared", **pictures())
    trained = train(service, "compared", "m")
    other = queue_run(service, "compared", "m", seed=1)
    answer = service.http.get("/v1/runs/compare", params={"run": [trained["id"], other["id"]]})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [one["pointer"] for one in found["configuration"]] == ["/seed"]
    assert {one["name"]: one["values"][trained["id"]] for one in found["metrics"]} == trained["metrics"]
    matrix = service.http.get(f"/v1/runs/{trained['id']}/evaluation").json()["matrix"]
    cells = [
        {"observed": one["observed"], "target": one["target"], "metric": one["metric"], **one["runs"][trained["id"]]}
        for one in found["evaluation"]
    ]
    assert cells == matrix
    missing = service.http.get("/v1/runs/compare", params={"run": [trained["id"], "run_1", "run_2"]})
    assert len(problem(missing, 404, "run_not_found")["errors"]) == 2
    problem(service.http.get("/v1/runs/compare", params={"run": [trained["id"]] * 2}), 422)
    for count in (0, 1, 21):
        answer = service.http.get("/v1/runs/compare", params={"run": [f"run_{n}" for n in range(count)]})
        assert fault(answer)[0] == "?run"
    service.http.post(f"/v1/runs/{other['id']}/cancel")
