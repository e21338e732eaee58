"""Changes of training runs in SQL. A run has the configuration; its job has the state."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from models.config.size import memory_bytes, size_of
from service.access import operations as access
from service.access.tables import Project
from service.datasets import operations as datasets
from service.jobs import operations as jobs
from service.jobs.operations import RunningLimit
from service.jobs.tables import FINAL_STATES, Job
from service.registry import operations as registry
from service.runs import lookup, schemas, training_plan
from service.runs.selection import KIND
from service.runs.tables import Run, RunCheckpoint, RunLatestMetric, RunMetric, RunTag
from service.runs.training_plan import Resolved
from service.shared import events, storage
from service.shared.errors import Conflict, NotFound, TooMany
from service.shared.events import Resource
from service.shared.samples import Schema
from service.shared.settings import Settings
from service.shared.table_base import new_id

QUEUE: Literal["train"] = "train"
# `Retry-After` of too many queued runs: one of them may have started by then.
RETRY_SECONDS = 30.0


def running_limit(settings: Settings) -> RunningLimit:
    """How many runs of a project may be running."""
    return RunningLimit(KIND, Project.max_running_runs, settings.project_running_runs)


def check_queued(session: Session, project_id: str, max_queued: int | None) -> None:
    """Raise TooMany when a project has as many queued runs as it may have, Conflict when it may have none at all.

    max_queued: None is no limit.

    Called in the transaction that queues one more. It locks the project, so that two of them do not exceed the limit
    together.
    """
    if max_queued is None:
        return
    if max_queued == 0:
        raise Conflict("runs_not_allowed", "the project may queue no runs: ask the operator to raise its queued_runs")
    access.lock_project(session, project_id)
    if (count := jobs.queued_count(session, project_id, KIND)) >= max_queued:
        detail = f"the project has {count} queued runs, at most {max_queued} are allowed"
        raise TooMany("too_many_queued_runs", detail, RETRY_SECONDS)


class Queued(NamedTuple):
    """A queued run and the id of its job, with which the caller wakes a worker after the commit."""

    run: schemas.Run
    job_id: str


def create(session: Session, project_id: str, request: schemas.RunRequest) -> Queued:
    """Check the request against the dataset, and queue a run.

    Raises NotFound for an unknown dataset, Conflict for one that is not ready, and BadInput with every misfit.
    """
    name, number = request.dataset.name, request.dataset.version
    _, version, _ = datasets.ready_version(session, project_id, name, number, lock=True)
    statistics = version.statistics or {}
    schema = Schema.model_validate(version.schema)
    plan = training_plan.resolve(session, project_id, request, schema, version.rows or 0, statistics)
    run = Run(
        id=new_id("run"),
        project_id=project_id,
        dataset_version_id=version.id,
        model_name=request.model,
        preset=plan.preset,
        architecture=plan.config.model_dump(mode="json"),
        training=plan.training.model_dump(mode="json"),
        init_from=request.init_from and request.init_from.model_dump(mode="json"),
        init_artifact_id=plan.init_artifact_id,
        estimate=_estimate(plan, statistics),
        seed=request.seed,
        description=request.description,
    )
    job = jobs.create(
        session,
        project_id,
        KIND,
        QUEUE,
        request.priority,
        request.max_attempts,
        request.timeout_seconds,
        request.devices,
        Resource("run", run.id),
    )
    return _queued(session, run, job, request.tags)


def retry(session: Session, project_id: str, run_id: str) -> Queued:
    """Queue a new run with the configuration of a failed or cancelled one. It resumes from its newest checkpoint.

    Raises NotFound, and Conflict while the run has not ended, or has succeeded.
    """
    run, job = _find(session, project_id, run_id)
    if job.state not in ("failed", "cancelled"):
        raise Conflict("run_cannot_be_retried", f"the run is {job.state}, expected failed or cancelled")
    datasets.check_kept(session, run.dataset_version_id)
    copied = ("project_id", "dataset_version_id", "model_name", "preset", "architecture", "training", "estimate")
    again = Run(
        id=new_id("run"),
        **{name: getattr(run, name) for name in (*copied, "init_from", "init_artifact_id", "seed", "description")},
        retry_of=run.id,
    )
    tags = lookup.tags_of(session, [run.id])[run.id]
    requested = job.priority, job.max_attempts, job.timeout_seconds, job.devices
    new_job = jobs.create(session, project_id, KIND, QUEUE, *requested, Resource("run", again.id))
    return _queued(session, again, new_job, tags)


def cancel(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """Cancel a queued run; ask a running one to stop. Raises NotFound, and Conflict when it has ended."""
    return _changed(session, project_id, run_id, jobs.cancel)


def pause(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """Pause a queued run; ask a running one to pause. Raises NotFound, and Conflict when it has ended."""
    return _changed(session, project_id, run_id, jobs.pause)


def resume(session: Session, project_id: str, run_id: str) -> Queued:
    """Queue a paused run again. Raises NotFound, and Conflict when it has ended."""
    return Queued(_changed(session, project_id, run_id, jobs.resume), lookup.job_of(session, project_id, run_id))


def change(session: Session, project_id: str, run_id: str, changes: schemas.RunChanges) -> schemas.Run:
    """Set tags or description. Raises NotFound."""
    run, job = _find(session, project_id, run_id)
    changed = []
    if changes.tags is not None and sorted({*changes.tags}) != lookup.tags_of(session, [run.id])[run.id]:
        session.execute(delete(RunTag).where(RunTag.run_id == run.id))
        _tag(session, run, changes.tags)
        changed.append("tags")
    if "description" in changes.model_fields_set and run.description != changes.description:
        run.description = changes.description
        changed.append("description")
    if changed:
        events.record(session, project_id, "run.changed", Resource("run", run.id), {"changed": changed})
    session.flush()
    return lookup.describe(session, [job.id])[0]


def remove(session: Session, project_id: str, run_id: str) -> None:
    """Delete a run that has ended, with its metrics, events, log and checkpoints. The version that it made stays.

    Raises NotFound, and Conflict while it has not ended.
    """
    run, job = _find(session, project_id, run_id)
    if job.state not in FINAL_STATES:
        raise Conflict("run_has_not_ended", f"the run is {job.state}: cancel it first")
    files = session.scalars(select(RunCheckpoint.artifact_id).where(RunCheckpoint.run_id == run.id)).all()
    registry.forget_run(session, run.id)
    session.execute(delete(RunMetric).where(RunMetric.run_id == run.id))
    session.execute(update(Run).where(Run.retry_of == run.id).values(retry_of=None))
    session.execute(delete(RunLatestMetric).where(RunLatestMetric.job_id == run.job_id))
    for table in (RunTag, RunCheckpoint):
        session.execute(delete(table).where(table.run_id == run.id))
    init, job_id = run.init_artifact_id, job.id
    session.execute(delete(Run).where(Run.id == run.id))
    jobs.remove(session, job_id)
    events.record(session, project_id, "run.deleted", Resource("run", run_id))
    storage.release(session, [*files, *([init] if init else [])])


def remove_some(session: Session, project_id: str, at_most: int) -> bool:
    """`remove` for some runs of a purged project. Returns False if it had none."""
    of_project = select(Run.id).where(Run.project_id == project_id).order_by(Run.job_id).limit(at_most)
    run_ids = session.scalars(of_project).all()
    for run_id in run_ids:
        remove(session, project_id, run_id)
    return bool(run_ids)


def _estimate(plan: Resolved, statistics: Mapping[str, Any]) -> dict[str, int | None]:
    steps = statistics.get("lengths", {}).get("maximum", 1)
    size = size_of(plan.config)
    return {"parameters": size and size.parameters, "memory_bytes": memory_bytes(plan.config, plan.training, steps)}


def _queued(session: Session, run: Run, job: Job, tags: Sequence[str]) -> Queued:
    """Add the rows of a run whose job is queued."""
    run.job_id = job.id
    session.add(run)
    session.flush()
    _tag(session, run, tags)
    session.flush()
    return Queued(lookup.get(session, run.project_id, run.id), job.id)


def _tag(session: Session, run: Run, tags: Sequence[str]) -> None:
    for tag in dict.fromkeys(tags):
        session.add(RunTag(run_id=run.id, tag=tag, project_id=run.project_id, job_id=run.job_id))


def _find(session: Session, project_id: str, run_id: str) -> tuple[Run, Job]:
    query = select(Run, Job).join(Job, Job.id == Run.job_id).where(Run.project_id == project_id, Run.id == run_id)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return row[0], row[1]


def _changed(session: Session, project_id: str, run_id: str, transition: Any) -> schemas.Run:
    transition(session, lookup.job_of(session, project_id, run_id))
    session.expire_all()
    return lookup.get(session, project_id, run_id)
