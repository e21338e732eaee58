"""The values that a run reports while it trains."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.shared.tables import RunMetric


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


def latest(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Run id -> metric -> newest value, for every run asked for."""
    newest = (
        select(func.max(RunMetric.id))
        .where(RunMetric.run_id.in_(run_ids))
        .group_by(RunMetric.run_id, RunMetric.name)
        .scalar_subquery()
    )
    found: dict[str, dict[str, float | None]] = {run_id: {} for run_id in run_ids}
    query = select(RunMetric.run_id, RunMetric.name, RunMetric.value).where(RunMetric.id.in_(newest))
    for run_id, name, value in session.execute(query.order_by(RunMetric.name)):
        found[run_id][name] = value
    return found


def history(session: Session, run_id: str, names: Sequence[str], most: int) -> dict[str, list[RunMetric]]:
    """Metric -> its values in order of step, the newest `most` rows of all. No names means all metrics."""
    query = select(RunMetric).where(RunMetric.run_id == run_id).order_by(RunMetric.id.desc()).limit(most)
    if names:
        query = query.where(RunMetric.name.in_(names))
    found: dict[str, list[RunMetric]] = {}
    for row in reversed(session.scalars(query).all()):
        found.setdefault(row.name, []).append(row)
    return found
