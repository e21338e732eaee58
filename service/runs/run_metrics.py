"""The history of a run's metrics."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.runs.tables import RunMetric


def history(session: Session, run_id: str, names: Sequence[str], max_points: int) -> dict[str, list[RunMetric]]:
    """Metric -> at most `max_points` of its values in order of step, evenly thinned; the newest is always among them.

    No names means all metrics.
    """
    backwards = func.row_number().over(partition_by=RunMetric.name, order_by=RunMetric.id.desc()) - 1
    count = func.count().over(partition_by=RunMetric.name)
    numbered = select(RunMetric.id, backwards.label("place"), ((count + max_points - 1) / max_points).label("stride"))
    numbered = numbered.where(RunMetric.run_id == run_id)
    if names:
        numbered = numbered.where(RunMetric.name.in_(names))
    each = numbered.subquery()
    query = select(RunMetric).join(each, each.c.id == RunMetric.id)
    values: dict[str, list[RunMetric]] = {}
    for row in session.scalars(query.where(each.c.place % func.floor(each.c.stride) == 0).order_by(RunMetric.id)):
        values.setdefault(row.name, []).append(row)
    return values
