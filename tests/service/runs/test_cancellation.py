"""Cancellation of many runs at once, on both databases and over HTTP."""

from collections import Counter
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select

from service.jobs.tables import Job, JobEvent
from service.runs import cancellation, training
from service.runs.cancellation import RUNS_AT_ONCE
from service.runs.group_schemas import RunSelection
from service.runs.tables import Run
from service.shared.database import Database
from service.shared.errors import BadInput
from tests.conftest import Service
from tests.service.rows import many_runs, queued_run
from tests.service.steps import dataset, fault, pictures, problem, queue_run


def cancel(database: Database, project_id: str, body: RunSelection) -> tuple[Sequence[str], Sequence[str], int]:
    """What was cancelled, what was asked to stop, and in how many transactions."""
    filters = cancellation.filters_of(body)
    cancelled: list[str] = []
    stopping: list[str] = []
    rest, transactions = None, 0
    while transactions == 0 or rest is not None:
        with database.writer.begin() as session:
            done = cancellation.cancel_some(session, project_id, filters, rest)
        cancelled += done.cancelled
        stopping += done.stopping
        rest, transactions = done.rest, transactions + 1
    return cancelled, stopping, transactions


def states(database: Database, run_ids: Sequence[str]) -> Counter[str]:
    with database.reader() as session:
        query = (
            select(Job.state, func.count().label("number")).join(Run, Run.job_id == Job.id).where(Run.id.in_(run_ids))
        )
        return Counter({row.state: row.number for row in session.execute(query.group_by(Job.state))})


def test_thousands_of_runs_are_cancelled_in_bounded_transactions(database: Database, project_id: str) -> None:
    queued_run(database, project_id, "other")
    cycle = ("queued", "queued", "queued", "paused", "running", "succeeded")
    made = many_runs(database, project_id, 3000, state=lambda number: cycle[number % len(cycle)])
    with database.writer.begin() as session:
        for number in range(0, 3000, 2):
            session.get_one(Run, made[number]).model_name = "chosen"
    chosen = RunSelection(model="chosen")
    cancelled, stopping, transactions = cancel(database, project_id, chosen)
    assert cancelled == [made[n] for n in range(2998, -1, -2) if cycle[n % 6] in ("queued", "paused")]
    assert stopping == [made[n] for n in range(2998, -1, -2) if cycle[n % 6] == "running"]
    assert transactions == (len(cancelled) + len(stopping)) // RUNS_AT_ONCE + 1
    assert states(database, made[::2]) == {"cancelled": 1000, "running": 500}
    assert states(database, made[1::2]) == {"queued": 500, "paused": 500, "succeeded": 500}
    with database.reader() as session:
        events = (
            select(JobEvent.type, func.count().label("number")).where(JobEvent.type != "queued").group_by(JobEvent.type)
        )
        counts = {row.type: row.number for row in session.execute(events)}
    assert {kind: counts[kind] for kind in ("cancelled", "cancel_requested")} == {
        "cancelled": 1000,
        "cancel_requested": 500,
    }
    again = cancel(database, project_id, chosen)
    assert again == ([], stopping, 2)
    with database.reader() as session:
        assert {row.type: row.number for row in session.execute(events)} == counts
    assert cancel(database, "prj_other", RunSelection(all=True)) == ([], [], 1)
    assert len(cancel(database, project_id, RunSelection(all=True))[0]) == 1001


def test_filters_of_the_list_choose_the_runs(database: Database, project_id: str) -> None:
    queued_run(database, project_id)
    made = many_runs(database, project_id, 6, state=lambda n: "queued", loss=lambda n: float(n))
    with database.writer.begin() as session:
        training.record_metrics(session, made[5], 1, 1, 1, {"loss": 0.0})
    worse = RunSelection(filter=["metric.loss>=3"], state=["queued"])
    assert cancel(database, project_id, worse)[0] == [made[4], made[3]]
    with pytest.raises(BadInput, match="no run of the project has reported a metric 'gain'"):
        cancel(database, project_id, RunSelection(filter=["metric.gain<0"]))
    with pytest.raises(BadInput) as refused:
        cancel(database, project_id, RunSelection(filter=["metric.loss>0", "loss>1"]))
    assert refused.value.faults[0].pointer == "/filter/1"


def test_a_run_that_is_queued_during_the_call_is_left_alone(database: Database, project_id: str) -> None:
    queued_run(database, project_id)
    many_runs(database, project_id, RUNS_AT_ONCE, state=lambda n: "queued")
    filters = cancellation.filters_of(RunSelection(all=True))
    with database.writer.begin() as session:
        first = cancellation.cancel_some(session, project_id, filters, None)
    (new,) = many_runs(database, project_id, 1, state=lambda n: "queued")
    with database.writer.begin() as session:
        second = cancellation.cancel_some(session, project_id, filters, first.rest)
    assert (len(first.cancelled), len(second.cancelled), second.rest) == (RUNS_AT_ONCE, 1, None)
    assert states(database, [new]) == {"queued": 1}


def test_a_request_needs_filters_or_all(service: Service) -> None:
    assert fault(service.http.post("/v1/runs/cancel", json={})) == ("", "no_filter")
    assert fault(service.http.post("/v1/runs/cancel", json={"tag": [], "filter": []})) == ("", "no_filter")
    assert fault(service.http.post("/v1/runs/cancel", json={"all": True, "model": "m"})) == ("/all", "all_with_filters")
    assert fault(service.http.post("/v1/runs/cancel", json={"state": ["failed"]}))[0] == "/state/0"
    assert fault(service.http.post("/v1/runs/cancel", json={"stat": ["queued"]}))[1] == "unknown_field"


def test_runs_are_cancelled_over_http(service: Service) -> None:
    dataset(service, "many", **pictures())
    made = [queue_run(service, "many", "m", tags=["night"])["id"] for _ in range(2)]
    kept = queue_run(service, "many", "m")["id"]
    answer = service.http.post("/v1/runs/cancel", json={"tag": ["night"], "created_after": "2020-01-01T00:00:00Z"})
    assert answer.status_code == 202
    body = answer.json()
    assert sorted(body.pop("cancelled")) == sorted(made)
    assert body == {"cancelled_count": 2, "stopping_count": 0, "stopping": []}
    assert service.http.get(f"/v1/runs/{kept}").json()["state"] == "queued"
    (event,) = service.http.get("/v1/audit-events", params={"action": "cancel_runs"}).json()["audit_events"]
    assert event["resource"] == "/v1/runs/cancel"
    service.http.post("/v1/runs/cancel", json={"all": True})
    assert service.http.get(f"/v1/runs/{kept}").json()["state"] == "cancelled"
    problem(service.http.post(f"/v1/runs/{kept}/cancel"), 409, "job_has_ended")
