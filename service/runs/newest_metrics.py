"""The newest value of every metric of a run: written with each report, read by lists, and searched by them."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.runs.tables import Run, RunLatestMetric
from service.shared.errors import BadInput, Fault

MAX_NAMES_READ = 500
MAX_NAMES_SHOWN = 5

_OF_JOBS = (
    select(RunLatestMetric.job_id, RunLatestMetric.name, RunLatestMetric.value)
    .where(RunLatestMetric.job_id.in_(bindparam("job_ids", expanding=True)))
    .order_by(RunLatestMetric.name)
)


def record(session: Session, run_id: str, values: Mapping[str, float | None]) -> None:
    """Set the newest values of some metrics of a run; None for a value that is not finite."""
    if not values:
        return
    project_id, job_id = session.execute(select(Run.project_id, Run.job_id).where(Run.id == run_id)).one()
    rows = [
        {"job_id": job_id, "name": name, "project_id": project_id, "value": value} for name, value in values.items()
    ]
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    new = insert(RunLatestMetric)
    changed = RunLatestMetric.value.is_distinct_from(new.excluded.value)  # a learning rate may stay for many reports
    session.execute(
        new.on_conflict_do_update(index_elements=["job_id", "name"], set_={"value": new.excluded.value}, where=changed),
        rows,
    )


def of_jobs(session: Session, job_ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Job id -> the newest value of each metric of its run, by name."""
    values: dict[str, dict[str, float | None]] = {job_id: {} for job_id in job_ids}
    for job_id, name, value in session.execute(_OF_JOBS, {"job_ids": job_ids}):
        values[job_id][name] = value
    return values


def check_known(session: Session, project_id: str, named: Sequence[tuple[str, str]]) -> None:
    """Raise BadInput for metrics that no run of the project has reported. named: pairs (place in the request, name)."""
    own = select(RunLatestMetric.job_id).where(RunLatestMetric.project_id == project_id)
    unknown = [
        (place, name)
        for place, name in named
        if session.scalar(own.where(RunLatestMetric.name == name).limit(1)) is None
    ]
    if not unknown:
        return
    known = _names(session, project_id)
    raise BadInput([Fault(place, "unknown_metric", _advice(name, known)) for place, name in unknown])


def _advice(name: str, known: Sequence[str]) -> str:
    sentence = f"no run of the project has reported a metric {name!r}"
    if not known:
        return f"{sentence}, expected a metric that a run has reported; none has reported any"
    nearest = get_close_matches(name, known, MAX_NAMES_SHOWN) or known[:MAX_NAMES_SHOWN]
    more = f" and {len(known) - len(nearest)} more" if len(known) > len(nearest) else ""
    return f"{sentence}, expected one of {', '.join(nearest)}{more}"


def _names(session: Session, project_id: str) -> list[str]:
    """The names of all metrics of the project: one step in an index per name, instead of one per run and name."""
    names: list[str] = []
    own = select(RunLatestMetric.name).where(RunLatestMetric.project_id == project_id)
    following = own.order_by(RunLatestMetric.name).limit(1)
    while len(names) < MAX_NAMES_READ:
        query = following.where(RunLatestMetric.name > names[-1]) if names else following
        if (name := session.scalar(query)) is None:
            break
        names.append(name)
    return names
