"""The values that a run reports while it trains."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.runs.tables import RunMetric, RunProgress


def record(session: Session, run_id: str, attempt: int, step: int, epoch: int, values: Mapping[str, float]) -> None:
    """Add one value of each metric. JSON has no NaN and no infinity: they are kept as null and a word."""
    session.add_all(
        RunMetric(
            run_id=run_id,
            attempt=attempt,
            name=name,
            step=step,
            epoch=epoch,
            value=finite(value),
            not_finite=None if math.isfinite(value) else str(value),
        )
        for name, value in values.items()
    )
    newest = session.get(RunProgress, run_id) or RunProgress(run_id=run_id, metrics={})
    newest.step, newest.epoch = step, epoch
    newest.metrics = {**newest.metrics, **{name: finite(value) for name, value in values.items()}}
    session.add(newest)


def finite(value: float) -> float | None:
    """The value as JSON can hold it: None for NaN and the infinities."""
    return value if math.isfinite(value) else None


def finite_throughout(value: Any) -> Any:
    """The same nested mappings and lists with None for every NaN and infinity."""
    match value:
        case float():
            return finite(value)
        case Mapping():
            return {key: finite_throughout(part) for key, part in value.items()}
        case list():
            return [finite_throughout(part) for part in value]
    return value


def history(session: Session, run_id: str, names: Sequence[str], most: int) -> dict[str, list[RunMetric]]:
    """Metric -> at most `most` of its values in order of step, evenly thinned, the newest among them.

    No names means all metrics.
    """
    backwards = func.row_number().over(partition_by=RunMetric.name, order_by=RunMetric.id.desc()) - 1
    count = func.count().over(partition_by=RunMetric.name)
    numbered = select(RunMetric.id, backwards.label("place"), ((count + most - 1) / most).label("stride"))
    numbered = numbered.where(RunMetric.run_id == run_id)
    if names:
        numbered = numbered.where(RunMetric.name.in_(names))
    each = numbered.subquery()
    query = select(RunMetric).join(each, each.c.id == RunMetric.id)
    found: dict[str, list[RunMetric]] = {}
    for row in session.scalars(query.where(each.c.place % func.floor(each.c.stride) == 0).order_by(RunMetric.id)):
        found.setdefault(row.name, []).append(row)
    return found
