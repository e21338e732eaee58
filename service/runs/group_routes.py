"""/v1/runs/compare and /v1/runs/cancel: calls about several runs at once."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.error_responses import errors
from service.runs import cancellation, comparison, group_schemas, queries

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=AuthenticatedRoute)


@router.get(
    "/compare",
    responses=errors("run_not_found"),
    operation_id="compare_runs",
    summary="Compare runs side by side",
    response_model=group_schemas.RunComparison,
)
def compare_runs(query: Annotated[queries.ComparisonQuery, Query()], caller: Caller, services: Web) -> Response:
    """Where the configurations of 2 to 20 runs differ, and their newest metrics and evaluations side by side."""
    with services.database.reader() as session:
        body = comparison.compare(session, caller.project_id, query.run)
    return Response(body.model_dump_json(), media_type="application/json")  # in this thread: it may be large


@router.post("/cancel", status_code=202, operation_id="cancel_runs", summary="Cancel all runs that match filters")
def cancel_runs(body: group_schemas.RunSelection, caller: Caller, services: Web) -> group_schemas.CancelledRuns:
    """Cancel the queued and paused runs that match every filter at once; ask the running ones to stop.

    Repeating the call changes nothing more. Runs that were queued during the call are not cancelled.
    """
    filters = cancellation.filters_of(body)
    cancelled: list[str] = []
    stopping: list[str] = []
    rest, goes_on = None, True
    while goes_on:  # other writers have their turn between the transactions
        with services.database.writer.begin() as session:
            done = cancellation.cancel_some(session, caller.project_id, filters, rest)
        cancelled += done.cancelled
        stopping += done.stopping
        rest, goes_on = done.rest, done.rest is not None
    return group_schemas.CancelledRuns(
        cancelled_count=len(cancelled), stopping_count=len(stopping), cancelled=cancelled, stopping=stopping
    )
