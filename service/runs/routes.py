"""/v1/runs."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Response
from fastapi.responses import PlainTextResponse

from service.jobs import history
from service.runs import metrics, schemas
from service.runs import operations as runs
from service.shared import broker
from service.shared.names import Reference
from service.web import Caller, Paging, Web

router = APIRouter(prefix="/v1/runs", tags=["runs"])

MOST_METRIC_ROWS = 100_000


@router.post("", status_code=201, operation_id="create_run")
def create_run(
    body: schemas.RunRequest, response: Response, after: BackgroundTasks, caller: Caller, services: Web
) -> schemas.Run:
    """Queue a training."""
    with services.database.writer.begin() as session:
        run = runs.create(session, caller.project_id, body)
        job_id = runs.job_of(session, caller.project_id, run.id)
    after.add_task(broker.wake, services.messages, runs.QUEUE, job_id)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return run


@router.get("", operation_id="list_runs")
def list_runs(page: Paging, caller: Caller, services: Web) -> schemas.RunPage:
    """The project's runs, newest first."""
    with services.database.reader() as session:
        found = runs.list_runs(session, caller.project_id, page.after, page.size + 1)
    items, token = page.cut([(run.id, run) for run in found])
    return schemas.RunPage(runs=items, next_page_token=token)


@router.get("/{run_id}", operation_id="get_run")
def get_run(run_id: Reference, caller: Caller, services: Web) -> schemas.Run:
    """Where a run stands."""
    with services.database.reader() as session:
        return runs.get(session, caller.project_id, run_id)


@router.post("/{run_id}/cancel", status_code=202, operation_id="cancel_run")
def cancel_run(run_id: Reference, caller: Caller, services: Web) -> schemas.Run:
    """Cancel a queued run at once, or ask a running one to stop."""
    with services.database.writer.begin() as session:
        return runs.cancel(session, caller.project_id, run_id)


@router.get("/{run_id}/metrics", operation_id="get_run_metrics")
def get_run_metrics(
    run_id: Reference,
    caller: Caller,
    services: Web,
    name: Annotated[list[Reference], Query(description="Only these metrics.")] = [],  # noqa: B006 FastAPI copies it
) -> schemas.RunMetrics:
    """What the run reported, by metric and step."""
    with services.database.reader() as session:
        runs.job_of(session, caller.project_id, run_id)
        found = metrics.history(session, run_id, name, MOST_METRIC_ROWS)
        points = {
            key: [schemas.MetricPoint.model_validate(row, from_attributes=True) for row in rows]
            for key, rows in found.items()
        }
    return schemas.RunMetrics(metrics=points)


@router.get("/{run_id}/evaluation", operation_id="get_run_evaluation")
def get_run_evaluation(run_id: Reference, caller: Caller, services: Web) -> schemas.Evaluation:
    """How good the run's model is on rows it was not trained on; 404 until the run has succeeded."""
    with services.database.reader() as session:
        return runs.evaluation(session, caller.project_id, run_id)


@router.get("/{run_id}/events", operation_id="get_run_events")
def get_run_events(
    run_id: Reference,
    caller: Caller,
    services: Web,
    after: Annotated[int, Query(ge=0, le=2**53, description="Only events behind this id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> schemas.RunEvents:
    """What happened to a run, oldest first."""
    with services.database.reader() as session:
        job_id = runs.job_of(session, caller.project_id, run_id)
        found = history.events(session, job_id, after, limit)
        events = [schemas.RunEvent.model_validate(event, from_attributes=True) for event in found]
    return schemas.RunEvents(events=events)


@router.get("/{run_id}/logs", operation_id="get_run_logs", response_class=PlainTextResponse)
def get_run_logs(
    run_id: Reference,
    caller: Caller,
    services: Web,
    characters: Annotated[int, Query(ge=1, le=2**22, description="Length of the tail.")] = 65_536,
) -> PlainTextResponse:
    """The end of what the run's attempts wrote, as text."""
    with services.database.reader() as session:
        job_id = runs.job_of(session, caller.project_id, run_id)
        return PlainTextResponse(history.log_tail(session, job_id, characters))
