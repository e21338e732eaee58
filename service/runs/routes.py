"""/v1/runs."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.access.quotas import check_stored_bytes
from service.events import stream
from service.events.entries import Filters as EventFilters
from service.events.waiting import WaitQuery, Waits
from service.http import event_streams
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Services, Web
from service.http.error_responses import errors
from service.http.idempotency import Once, OnceByBody
from service.http.paging import page_of
from service.jobs import history
from service.jobs.tables import FINAL_STATES
from service.registry.schemas import Evaluation
from service.runs import lookup, queries, run_metrics, schemas
from service.runs import operations as runs
from service.runs.event_source import RUN_EVENTS
from service.runs.selection import NEWEST_FIRST
from service.shared import broker, storage
from service.shared.resource_names import Reference

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=AuthenticatedRoute)

QUOTAS = ("quota_exceeded", "runs_not_allowed", "too_many_queued_runs")
WHOLE_LOG_CHARACTERS = 2**31


@router.post(
    "",
    status_code=201,
    operation_id="create_run",
    summary="Start a training run",
    responses=errors(
        "dataset_deleted",
        "dataset_not_found",
        "dataset_not_ready",
        "dataset_version_not_found",
        "model_version_not_found",
        *QUOTAS,
    ),
)
async def create_run(
    body: schemas.RunRequest,
    query: Annotated[WaitQuery, Query()],
    response: Response,
    after: BackgroundTasks,
    caller: Caller,
    services: Web,
    once: OnceByBody,
    waits: Waits,
) -> schemas.Run:
    """Queue a training. With `wait`, answer when it has ended or is paused, or when the wait is over."""

    def create(session: Session) -> runs.Queued:
        return runs.create(session, caller.project_id, body)

    made = await run_in_threadpool(_queued, create, once, response, after, caller, services)

    def find(session: Session) -> schemas.Run:
        return lookup.get(session, caller.project_id, made.id)

    return await waits.until(_is_settled, made.id, find, query, made)


@router.get("", operation_id="list_runs", summary="List training runs", response_model=schemas.RunPage)
def list_runs(query: Annotated[queries.RunQuery, Query()], request: Request, caller: Caller, services: Web) -> Response:
    """The project's runs, newest first, or in the order of `sort`."""
    filters, order = query.filters(), query.order()
    page = page_of(query, request, "" if order == NEWEST_FIRST else query.sort)
    with services.database.reader() as session:
        runs = lookup.list_runs(session, caller.project_id, filters, order, page.after, page.size + 1)
    return page.response("runs", runs)


@router.get("/{run_id}", operation_id="get_run", summary="Get a run", responses=errors("run_not_found"))
async def get_run(run_id: Reference, query: Annotated[WaitQuery, Query()], caller: Caller, waits: Waits) -> schemas.Run:
    """One run with its state. With `wait`, answer when it has ended or is paused, or when the wait is over."""

    def find(session: Session) -> schemas.Run:
        return lookup.get(session, caller.project_id, run_id)

    return await waits.until(_is_settled, run_id, find, query)


@router.patch(
    "/{run_id}",
    operation_id="change_run",
    summary="Change tags or description of a run",
    responses=errors("run_not_found"),
)
def change_run(run_id: Reference, body: schemas.RunChanges, caller: Caller, services: Web) -> schemas.Run:
    """Set a run's tags or description."""
    with services.database.writer.begin() as session:
        return runs.change(session, caller.project_id, run_id, body)


@router.delete(
    "/{run_id}",
    status_code=204,
    operation_id="delete_run",
    summary="Delete a run that has ended",
    responses=errors("run_has_not_ended", "run_not_found"),
)
def delete_run(run_id: Reference, after: BackgroundTasks, caller: Caller, services: Web) -> None:
    """Delete a run that has ended, with its metrics, log and checkpoints. The version that it made stays."""
    with services.database.writer.begin() as session:
        runs.remove(session, caller.project_id, run_id)
    after.add_task(storage.sweep, services.database, services.storage)


@router.post(
    "/{run_id}/cancel",
    status_code=202,
    operation_id="cancel_run",
    summary="Cancel a run",
    responses=errors("job_has_ended", "run_not_found"),
)
def cancel_run(run_id: Reference, caller: Caller, services: Web) -> schemas.Run:
    """Cancel a queued run at once; ask a running one to stop. Its checkpoint is kept."""
    with services.database.writer.begin() as session:
        return runs.cancel(session, caller.project_id, run_id)


@router.post(
    "/{run_id}/pause",
    status_code=202,
    operation_id="pause_run",
    summary="Pause a run",
    responses=errors("job_has_ended", "run_not_found"),
)
def pause_run(run_id: Reference, caller: Caller, services: Web) -> schemas.Run:
    """Pause a queued run at once; ask a running one to save a checkpoint and pause."""
    with services.database.writer.begin() as session:
        return runs.pause(session, caller.project_id, run_id)


@router.post(
    "/{run_id}/resume",
    status_code=202,
    operation_id="resume_run",
    summary="Resume a paused run",
    responses=errors("job_has_ended", "run_not_found", "runs_not_allowed", "too_many_queued_runs"),
)
def resume_run(run_id: Reference, after: BackgroundTasks, caller: Caller, services: Web) -> schemas.Run:
    """Queue a paused run again. It resumes from its newest checkpoint."""
    with services.database.writer.begin() as session:
        runs.check_queued(session, caller.project_id, caller.quotas.queued_runs)
        queued = runs.resume(session, caller.project_id, run_id)
    after.add_task(broker.wake, services.messages, runs.QUEUE, queued.job_id)
    return queued.run


@router.post(
    "/{run_id}/retry",
    status_code=201,
    operation_id="retry_run",
    summary="Retry a run that failed or was cancelled",
    responses=errors("body_too_large", "dataset_deleted", "run_cannot_be_retried", "run_not_found", *QUOTAS),
)
def retry_run(
    run_id: Reference, response: Response, after: BackgroundTasks, caller: Caller, services: Web, once: OnceByBody
) -> schemas.Run:
    """Queue a new run that resumes from the newest checkpoint of a run that failed or was cancelled."""
    return _queued(
        lambda session: runs.retry(session, caller.project_id, run_id), once, response, after, caller, services
    )


@router.get(
    "/{run_id}/metrics",
    operation_id="get_run_metrics",
    summary="Get the metrics of a run",
    responses=errors("run_not_found"),
)
def get_run_metrics(
    run_id: Reference, query: Annotated[queries.MetricQuery, Query()], caller: Caller, services: Web
) -> schemas.MetricHistories:
    """The values that the run reported, by metric and step."""
    with services.database.reader() as session:
        lookup.job_of(session, caller.project_id, run_id)
        rows_found = run_metrics.history(session, run_id, query.name, query.points)
        histories = {
            key: [schemas.MetricPoint.model_validate(row, from_attributes=True) for row in rows]
            for key, rows in rows_found.items()
        }
    return schemas.MetricHistories(metrics=histories)


@router.get(
    "/{run_id}/evaluation",
    operation_id="get_run_evaluation",
    summary="Get the evaluation of a run",
    responses=errors("evaluation_of_run_not_found", "run_not_found"),
)
def get_run_evaluation(run_id: Reference, caller: Caller, services: Web) -> Evaluation:
    """How well the model predicts rows that it was not trained on; 404 until the run has succeeded."""
    with services.database.reader() as session:
        return lookup.evaluation(session, caller.project_id, run_id)


@router.get(
    "/{run_id}/events",
    operation_id="get_run_events",
    summary="List or follow the events of a run",
    response_model=schemas.RunEventPage,
    responses={
        200: {"content": event_streams.described("RunEvent", "Type of the event; `access_ended` ends the stream.")},
        204: {
            "description": "Streams only: the run has ended, and there are no newer events. An EventSource then stops."
        },
        **errors("run_not_found"),
    },
)
def get_run_events(
    run_id: Reference,
    query: Annotated[queries.EventQuery, Query()],
    request: Request,
    caller: Caller,
    services: Web,
    feed: stream.Listening,
    accept: stream.Accept = "*/*",
    last_event_id: stream.LastEventId = None,
) -> Response:
    """The events of a run, oldest first; as server-sent events until the run ends, if the request accepts them."""
    page = page_of(query, request)
    seen = query.after if page.after is None else int(page.after)
    with services.database.reader() as session:
        job_id = lookup.job_of(session, caller.project_id, run_id)
        if stream.EVENT_STREAM in accept:
            seen = seen if last_event_id is None else last_event_id
            if history.is_complete(session, job_id, seen):
                return Response(status_code=204)
            return stream.response(feed, RUN_EVENTS, job_id, seen, caller.key_id, EventFilters(period=query.period))
        rows = history.events(session, job_id, seen, page.size + 1, query.period)
        events = [(str(row.id), schemas.RunEvent.model_validate(row, from_attributes=True)) for row in rows]
    return page.response("events", events)


@router.get(
    "/{run_id}/logs",
    operation_id="get_run_logs",
    summary="Read the log of a run",
    response_class=PlainTextResponse,
    response_description="What the attempts wrote to standard error, in order.",
    responses=errors("run_not_found"),
)
def get_run_logs(
    run_id: Reference, query: Annotated[queries.LogQuery, Query()], caller: Caller, services: Web
) -> PlainTextResponse:
    """The log of the run's attempts as text: its end, or all of it."""
    with services.database.reader() as session:
        job_id = lookup.job_of(session, caller.project_id, run_id)
        max_characters = query.characters if query.part == "tail" else WHOLE_LOG_CHARACTERS
        return PlainTextResponse(history.log_tail(session, job_id, max_characters))


def _is_settled(run: schemas.Run) -> bool:
    """Whether a run stays as it is unless somebody asks for something else."""
    return run.state in (*FINAL_STATES, "paused")


def _queued(
    queue: Callable[[Session], runs.Queued],
    once: Once,
    response: Response,
    after: BackgroundTasks,
    caller: Caller,
    services: Services,
) -> schemas.Run:
    """Queue a run once per idempotency key. Raises TooMany, Conflict and QuotaExceeded for quotas of the project."""

    def create(session: Session) -> schemas.Run:
        runs.check_queued(session, caller.project_id, caller.quotas.queued_runs)
        check_stored_bytes(session, caller.project_id, caller.quotas.stored_bytes)
        queued = queue(session)
        after.add_task(broker.wake, services.messages, runs.QUEUE, queued.job_id)  # once it is committed
        return queued.run

    run = once.do(services.database, create, schemas.Run)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return run
