"""Lists of runs: filters and pages, on both databases."""

import math
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from service.jobs import operations as jobs
from service.jobs.tables import Job
from service.runs import lookup, selection, selection_syntax, training
from service.runs import operations as runs
from service.runs.schemas import DatasetReference, RunChanges, RunRequest
from service.runs.selection import NEWEST_FIRST, Filters, MetricFilter, Order
from service.runs.tables import Run
from service.shared.database import Database
from service.shared.errors import BadInput
from service.shared.period import Period
from tests.conftest import Service
from tests.service.rows import many_runs, queued_run, ready_dataset
from tests.service.steps import dataset, pictures, problem, queue_run


@pytest.fixture
def made(database: Database, project_id: str) -> list[str]:
    """Six runs, oldest first: even ones for model a, every third has the tag t, the first two are cancelled."""
    ready_dataset(database, project_id)
    found = []
    for index in range(6):
        with database.writer.begin() as session:
            request = RunRequest(
                dataset=DatasetReference(name="d"),
                model="ab"[index % 2],
                tags=["t", "u"] if index % 3 == 0 else ["u"],
            )
            run, job_id = runs.create(session, project_id, request)
            found.append(run.id)
            if index < 2:
                jobs.cancel(session, job_id)
        time.sleep(0.002)  # ids of one millisecond have no order
    return found


def listed(
    database: Database, project_id: str, size: int = 100, order: Order = NEWEST_FIRST, **filters: object
) -> list[str]:
    """All pages, one after the other."""
    found: list[str] = []
    after = None
    while True:
        with database.reader() as session:
            page = lookup.list_runs(session, project_id, Filters(**filters), order, after, size)  # type: ignore[arg-type]
        found += [run.id for _, run in page]
        if len(page) < size:
            return found
        after = page[-1][0]


def test_pages_are_newest_first_and_complete(database: Database, project_id: str, made: list[str]) -> None:
    for size in (1, 2, 4, 7):
        assert listed(database, project_id, size) == made[::-1]
    assert listed(database, "prj_other") == []


def test_a_list_has_queue_positions_with_a_constant_number_of_queries(
    database: Database, project_id: str, made: list[str]
) -> None:
    with database.writer.begin() as session:
        session.get_one(Job, lookup.job_of(session, project_id, made[5])).priority = 7
    counts: list[int] = []
    found: dict[int, dict[str, tuple[int | None, str | None]]] = {}
    for size in (1, 6):
        statements: list[str] = []

        def count(*arguments: object, into: list[str] = statements) -> None:
            into.append(str(arguments[2]))

        event.listen(database.engine, "before_cursor_execute", count)
        with database.reader() as session:
            page = lookup.list_runs(session, project_id, Filters(), NEWEST_FIRST, None, size)
        event.remove(database.engine, "before_cursor_execute", count)
        counts.append(len(statements))
        found[size] = {run.id: (run.queue_position, run.waiting_reason) for _, run in page}
    assert counts[0] == counts[1]
    positions = [found[6][run_id][0] for run_id in made]
    assert positions == [None, None, 2, 3, 4, 1]
    assert found[6][made[0]] == (None, None)
    assert found[6][made[2]][1] == "no train worker is alive"
    with database.reader() as session:
        alone = {run_id: lookup.get(session, project_id, run_id) for run_id in made}
    assert {run_id: (run.queue_position, run.waiting_reason) for run_id, run in alone.items()} == found[6]
    assert found[1] == {made[5]: found[6][made[5]]}


def test_filters_narrow_and_combine(database: Database, project_id: str, made: list[str]) -> None:
    queued, cancelled = made[:1:-1], made[1::-1]
    for size in (1, 3, 100):
        assert listed(database, project_id, size, states=["cancelled"]) == cancelled
        assert listed(database, project_id, size, states=["queued"]) == queued
        assert listed(database, project_id, size, states=["queued", "cancelled", "failed"]) == made[::-1]
    assert listed(database, project_id, states=["running"]) == []
    assert listed(database, project_id, tags=["t"]) == [made[3], made[0]]
    assert listed(database, project_id, tags=["t", "u"], states=["queued"]) == [made[3]]
    assert listed(database, project_id, tags=["v"]) == []
    assert listed(database, project_id, model="a") == [made[4], made[2], made[0]]
    assert listed(database, project_id, dataset="d", model="b") == [made[5], made[3], made[1]]
    assert listed(database, project_id, dataset="e") == []


def test_times_narrow_too(database: Database, project_id: str, made: list[str]) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=5)
    long_ago = soon - timedelta(hours=1)
    assert listed(database, project_id, period=Period(long_ago, soon)) == made[::-1]
    assert listed(database, project_id, period=Period(soon)) == []
    assert listed(database, project_id, period=Period(before=long_ago), states=["queued"]) == []


def test_tags_and_description_can_be_changed(database: Database, project_id: str, made: list[str]) -> None:
    with database.writer.begin() as session:
        changed = runs.change(session, project_id, made[1], RunChanges(tags=["z", "y", "z"], description="mine"))
    assert (changed.tags, changed.description) == (["y", "z"], "mine")
    with database.writer.begin() as session:
        assert runs.change(session, project_id, made[1], RunChanges(description=None)).tags == ["y", "z"]
    assert listed(database, project_id, tags=["z"]) == [made[1]]


def test_a_stored_architecture_of_an_earlier_release_is_listed_with_the_names_of_today(
    database: Database, project_id: str, made: list[str]
) -> None:
    """A product of experts was a fusion once (docs/decisions/0052)."""
    with database.writer.begin() as session:
        session.get_one(Run, made[3]).architecture = {"architecture": "mmvrnn", "fusion": "product_of_experts"}
    with database.reader() as session:
        listed_runs = lookup.list_runs(session, project_id, Filters(), NEWEST_FIRST, None, 6)
        found = {run.id: run.architecture for _, run in listed_runs}
        one = lookup.get(session, project_id, made[3]).architecture
    assert found[made[3]] == one
    assert one == {"architecture": "mmvrnn", "fusion": "missing_embeddings", "posterior": "product_of_experts"}


@pytest.fixture
def measured(database: Database, project_id: str) -> list[str]:
    """Runs, oldest first, with losses that tie, a loss that is not finite, and runs that have reported none."""
    first = queued_run(database, project_id)
    losses = [0.5, 0.25, None, 0.5, 1e300, -3.0, 0.1 + 0.2, 0.25, 0.5]
    made = many_runs(database, project_id, len(losses), loss=lambda n: losses[n], kl=lambda n: float(n))
    return [first, *made, *many_runs(database, project_id, 2)]


@pytest.mark.parametrize("asked_first", [1, 3, 2000])
def test_an_order_by_a_metric_is_the_same_for_pages_of_any_size(
    database: Database, project_id: str, measured: list[str], asked_first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "ASKED_FIRST", asked_first)
    first, *made = measured
    loss = {0: 0.5, 1: 0.25, 3: 0.5, 4: 1e300, 5: -3.0, 6: 0.1 + 0.2, 7: 0.25, 8: 0.5}
    ascending = [made[n] for n in sorted(loss, key=lambda n: (loss[n], n))]
    without = [made[10], made[9], made[2], first]
    for size in (1, 2, 3, 5, 100):
        assert listed(database, project_id, size, Order("loss", descending=False)) == ascending + without
        assert listed(database, project_id, size, Order("loss", descending=True)) == ascending[::-1] + without
        assert listed(database, project_id, size, Order("kl", descending=False)) == [*made[:9], *made[:8:-1], first]
        succeeded = listed(database, project_id, size, Order("loss"), states=["succeeded", "failed"])
        assert succeeded == ascending[::-1] + without[:3]
        assert listed(database, project_id, size, Order(descending=False)) == measured
        quarter = {"metrics": [MetricFilter("loss", "=", 0.25)]}
        assert listed(database, project_id, size, Order("loss", descending=False), **quarter) == [made[1], made[7]]
        late = {"metrics": [MetricFilter("kl", ">", 1)], "states": ["succeeded", "failed"]}
        assert listed(database, project_id, size, Order("loss", descending=False), **late) == [
            made[5], made[7], made[6], made[3], made[8], made[4], made[2],
        ]  # fmt: skip
    assert listed(database, "prj_other") == []


def test_filters_compare_the_newest_value_and_leave_out_runs_without_one(
    database: Database, project_id: str, measured: list[str]
) -> None:
    made = measured[1:]

    def found(*conditions: tuple[str, str, float]) -> list[int]:
        ids = listed(database, project_id, 2, metrics=[MetricFilter(*one) for one in conditions])
        return sorted(made.index(run_id) for run_id in ids)

    assert found(("loss", "<", 0.3)) == [1, 5, 7]
    assert found(("loss", "<=", 0.1 + 0.2)) == [1, 5, 6, 7]
    assert found(("loss", ">", 0.5)) == [4]
    assert found(("loss", ">=", 0.5)) == [0, 3, 4, 8]
    assert found(("loss", "=", 0.1 + 0.2)) == [6]
    assert found(("loss", "!=", 0.5)) == [1, 4, 5, 6, 7]
    assert found(("loss", "=", 0.5), ("kl", ">", 0)) == [3, 8]
    assert found(("loss", "=", 0.5), ("loss", ">", 0.5)) == []
    with database.writer.begin() as session:
        training.record_metrics(session, made[1], 1, 9, 9, {"loss": 7.0})
        training.record_metrics(session, made[4], 1, 9, 9, {"loss": math.inf})
    assert found(("loss", ">", 0.5)) == [1]


def test_a_metric_that_no_run_of_the_project_has_is_refused_with_the_nearest_names(
    database: Database, project_id: str, measured: list[str]
) -> None:
    filters = Filters(metrics=[MetricFilter("kl", "<", 1), MetricFilter("los", "<", 1)])
    with database.reader() as session, pytest.raises(BadInput) as refused:
        lookup.list_runs(session, project_id, filters, Order("kll"), None, 10)
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [
        ("?sort", "unknown_metric"),
        ("?filter", "unknown_metric"),
    ]
    assert refused.value.faults[1].detail == (
        "no run of the project has reported a metric 'los', expected one of loss and 1 more"
    )
    with database.reader() as session, pytest.raises(BadInput, match="expected a metric that a run has reported; none"):
        lookup.list_runs(session, "prj_other", Filters(), Order("loss"), None, 10)


def test_a_deleted_run_leaves_the_order(database: Database, project_id: str, measured: list[str]) -> None:
    with database.writer.begin() as session:
        runs.remove(session, project_id, measured[6])
    assert listed(database, project_id, 1, Order("loss", descending=False))[0] == measured[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metric.loss<0.3", MetricFilter("loss", "<", 0.3)),
        ("metric.reconstruction/left eye>=-1e-3", MetricFilter("reconstruction/left eye", ">=", -1e-3)),
        ("metric.a.b != 2", MetricFilter("a.b", "!=", 2.0)),
        ("metric.loss<=.5", MetricFilter("loss", "<=", 0.5)),
        ("metric.loss/a<b=!c>=2", MetricFilter("loss/a<b=!c", ">=", 2.0)),
        ("metric.a<1<2", MetricFilter("a<1", "<", 2.0)),
    ],
)
def test_a_filter_is_a_metric_an_operator_and_a_number(text: str, expected: MetricFilter) -> None:
    assert selection_syntax.metric_filters([text]) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "loss<1", "metric.loss", "metric.<1", "metric.loss<", "metric.loss<<1", "metric.loss==1", "metric.loss<nan",
        "metric.loss<inf", "metric.loss<one",
    ],
)  # fmt: skip
def test_any_other_filter_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        selection_syntax.metric_filters(["metric.loss<1", text], "/filter")
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/filter/1", "bad_filter")]


@pytest.mark.parametrize("text", ["loss", "metric.", "--created_at", "state", "-", "Metric.loss"])
def test_an_unknown_sort_key_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(BadInput, match="expected created_at, or metric") as refused:
        selection_syntax.order(text)
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("?sort", "unknown_sort_key")]


def test_a_token_is_valid_for_its_own_order_only(service: Service) -> None:
    dataset(service, "ordered", **pictures())
    for _ in range(2):
        queue_run(service, "ordered", "m")
    with service.worker.database.writer.begin() as session:
        for run in service.http.get("/v1/runs").json()["runs"]:
            training.record_metrics(session, run["id"], 1, 1, 1, {"loss": 1.5})
    seen: list[dict[str, float]] = []
    token: dict[str, str] = {}
    while len(seen) < 2:
        page = service.http.get("/v1/runs", params={"sort": "metric.loss", "page_size": "1", **token}).json()
        seen += [run["metrics"] for run in page["runs"]]
        token = {"page_token": page["next_page_token"]}
        if page["next_page_token"] is not None:
            for other in ("-metric.loss", "created_at", "-created_at"):
                answer = service.http.get("/v1/runs", params={"sort": other, **token})
                problem(answer, 400, "invalid_page_token")
    assert seen == [{"loss": 1.5}] * 2
    assert token == {"page_token": None}
    problem(service.http.get("/v1/runs?sort=speed"), 422)
    problem(service.http.get("/v1/runs?filter=metric.speed<1"), 422)
    found = problem(service.http.get("/v1/runs?filter=speed&filter=loss<1"), 422)
    assert [error["pointer"] for error in found["errors"]] == ["?filter", "?filter"]
