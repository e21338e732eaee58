"""Cancels all runs that match some filters, a bounded number per transaction."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.jobs import operations as jobs
from service.runs import group_schemas, selection, selection_syntax
from service.runs.selection import NEWEST_FIRST, Filters, Place
from service.runs.tables import Run
from service.shared.errors import BadInput, Fault
from service.shared.period import Period

RUNS_AT_ONCE = 500
UNFINISHED: tuple[str, ...] = get_args(group_schemas.UnfinishedState)


class Cancelled(NamedTuple):
    """Ids of runs that are cancelled, and of runs that were asked to stop; and where the others follow, if any."""

    cancelled: Sequence[str]
    stopping: Sequence[str]
    rest: Place | None


def filters_of(body: group_schemas.RunSelection) -> Filters:
    """The filters of a request. Raises BadInput unless it has either a filter or `all`."""
    period = Period(body.created_after, body.created_before)
    metrics = selection_syntax.metric_filters(list(dict.fromkeys(body.filter)), "/filter")
    chosen = (body.state, body.tag, body.dataset, body.model, metrics, any(period))
    if not any(chosen) and not body.all:
        detail = 'the body has no filter, expected at least one, or "all": true to cancel every run that has not ended'
        raise BadInput([Fault("", "no_filter", detail)])
    if any(chosen) and body.all:
        detail = "all is true together with filters, expected either filters or all"
        raise BadInput([Fault("/all", "all_with_filters", detail)])
    states = list(dict.fromkeys(body.state)) or UNFINISHED
    return Filters(states, list(dict.fromkeys(body.tag)), body.dataset, body.model, period, metrics)


def cancel_some(session: Session, project_id: str, filters: Filters, after: Place | None) -> Cancelled:
    """Cancel the next runs that follow `after`, newest first, so that runs that are queued meanwhile are left alone.

    Raises BadInput for a metric that no run of the project has reported.
    """
    places = selection.page(session, project_id, filters, NEWEST_FIRST, after, RUNS_AT_ONCE)
    job_ids = [place.job_id for place in places]
    states = jobs.cancel_all(session, job_ids)
    named = session.execute(select(Run.job_id, Run.id).where(Run.job_id.in_(job_ids)))
    run_ids = {row.job_id: row.id for row in named}
    return Cancelled(
        [run_ids[job_id] for job_id in job_ids if states.get(job_id) == "cancelled"],
        [run_ids[job_id] for job_id in job_ids if states.get(job_id) == "running"],
        places[-1] if len(places) == RUNS_AT_ONCE else None,
    )
