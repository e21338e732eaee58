"""The values of a run: newest, and in order."""

import math
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from service.runs import newest_metrics, run_metrics, training
from service.runs.tables import Run
from service.shared.database import Database
from tests.service.rows import queued_run


def newest(session: Session, run_id: str) -> dict[str, Any]:
    job_id = session.get_one(Run, run_id).job_id
    return newest_metrics.of_jobs(session, [job_id])[job_id]


def test_values_are_listed_by_name_and_in_order(database: Database, project_id: str) -> None:
    run_id = queued_run(database, project_id)
    for step in (1, 2, 3):
        with database.writer.begin() as session:
            training.record_metrics(session, run_id, 1, step, step, {"loss": 1 / step, "kl": float(step)})
    with database.reader() as session:
        found = run_metrics.history(session, run_id, [], 100)
        assert [row.value for row in found["loss"]] == [1, 1 / 2, 1 / 3]
        assert [row.step for row in found["kl"]] == [1, 2, 3]
        assert list(run_metrics.history(session, run_id, ["kl"], 100)) == ["kl"]
        assert newest(session, run_id) == {"kl": 3.0, "loss": 1 / 3}


@pytest.mark.parametrize("points", [1, 7, 10, 30, 31])
def test_a_long_history_is_thinned_evenly_and_keeps_its_newest_value(
    database: Database, project_id: str, points: int
) -> None:
    run_id = queued_run(database, project_id)
    with database.writer.begin() as session:
        for step in range(30):
            training.record_metrics(session, run_id, 1, step, step, {"loss": 1.0, "kl": 2.0})
    with database.reader() as session:
        found = run_metrics.history(session, run_id, [], points)
    for rows in found.values():
        steps = [row.step for row in rows]
        assert len(steps) <= points
        assert len(steps) > min(points, 30) / 2
        assert steps[-1] == 29
        assert len(set(np.diff(steps).tolist())) <= 1


def test_a_value_that_is_not_finite_is_null_and_a_flag(database: Database, project_id: str) -> None:
    run_id = queued_run(database, project_id)
    with database.writer.begin() as session:
        training.record_metrics(
            session, run_id, 1, 1, 1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": float(np.pi)}
        )
    with database.reader() as session:
        found = run_metrics.history(session, run_id, [], 100)
        assert {name: (rows[0].value, rows[0].not_finite) for name, rows in found.items()} == {
            "a": (None, "nan"),
            "b": (None, "inf"),
            "c": (None, "-inf"),
            "d": (np.pi, None),
        }
        assert newest(session, run_id) == {"a": None, "b": None, "c": None, "d": np.pi}


def test_a_run_without_values_has_an_empty_history(database: Database, project_id: str) -> None:
    run_id = queued_run(database, project_id)
    with database.reader() as session:
        assert run_metrics.history(session, run_id, [], 100) == {}
