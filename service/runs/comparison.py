"""Compares runs: where their configurations differ, and their metrics and evaluations side by side."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.runs import group_schemas, lookup, schemas
from service.runs.tables import Run
from service.shared.errors import BadInput, Fault, NotFound, pointer

PLACE = "?run"
CONFIGURATION = (
    "dataset", "model", "preset", "architecture", "training", "init_from", "seed", "devices", "priority",
    "max_attempts", "timeout_seconds",
)  # fmt: skip
"""The fields of a run that its request decided, without those for people."""


def compare(session: Session, project_id: str, run_ids: Sequence[str]) -> group_schemas.RunComparison:
    """Compare some runs of a project.

    Raises BadInput for a run that is named twice, and NotFound that names all runs that the project does not have.
    """
    repeated = [run_id for run_id, count in Counter(run_ids).items() if count > 1]
    if repeated:
        details = [f"run {run_id!r} is given {run_ids.count(run_id)} times, expected once" for run_id in repeated]
        raise BadInput([Fault(PLACE, "repeated_run", detail) for detail in details])
    query = select(Run.id, Run.job_id, Run.evaluation).where(Run.project_id == project_id, Run.id.in_(run_ids))
    found = {row.id: row for row in session.execute(query)}
    missing = [run_id for run_id in run_ids if run_id not in found]
    if missing:
        details = [f"there is no run {run_id!r} in this project" for run_id in missing]
        raise NotFound("run", missing[0], [Fault(PLACE, "run_not_found", detail) for detail in details])
    runs = lookup.describe(session, [found[run_id].job_id for run_id in run_ids])
    return group_schemas.RunComparison(
        runs=[group_schemas.ComparedRun.model_validate(run.model_dump()) for run in runs],
        configuration=_differences(runs),
        metrics=_metrics(runs),
        evaluation=_evaluations({run_id: found[run_id].evaluation for run_id in run_ids}),
    )


def _differences(runs: Sequence[schemas.Run]) -> list[group_schemas.ConfigurationDifference]:
    values: dict[str, dict[str, Any]] = {}
    for run in runs:
        dumped = run.model_dump(mode="json", include=set(CONFIGURATION))
        for field in CONFIGURATION:
            for place, value in leaves(dumped[field], (field,)):
                values.setdefault(place, {})[run.id] = value
    return [
        group_schemas.ConfigurationDifference(pointer=place, values=of_runs)
        for place, of_runs in values.items()
        if len(of_runs) < len(runs) or len({json.dumps(value) for value in of_runs.values()}) > 1
    ]


def leaves(value: Any, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The JSON pointer and value of each place. A list of plain values, such as sizes of layers, is one place."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*steps, key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            yield from leaves(item, (*steps, number))
    else:
        yield pointer(*steps), value


def _metrics(runs: Sequence[schemas.Run]) -> list[group_schemas.MetricComparison]:
    names = sorted({name for run in runs for name in run.metrics})
    return [
        group_schemas.MetricComparison(
            name=name, values={run.id: run.metrics[name] for run in runs if name in run.metrics}
        )
        for name in names
    ]


def _evaluations(evaluations: dict[str, dict[str, Any] | None]) -> list[group_schemas.EvaluationComparison]:
    cells: dict[tuple[tuple[str, ...], str, str], dict[str, group_schemas.EvaluatedCell]] = {}
    for run_id, evaluation in evaluations.items():
        for entry in (evaluation or {}).get("matrix", ()):
            key = (tuple(entry["observed"]), entry["target"], entry["metric"])
            cells.setdefault(key, {})[run_id] = group_schemas.EvaluatedCell.model_validate(entry)
    return [
        group_schemas.EvaluationComparison(observed=list(observed), target=target, metric=metric, runs=of_runs)
        for (observed, target, metric), of_runs in cells.items()
    ]
