"""Training runs in SQL. A run says what was asked for; its job carries its state."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Row, Select, bindparam, delete, select, update
from sqlalchemy.orm import Session

from models.config.size import memory_bytes, size_of
from service.datasets import operations as datasets
from service.datasets.tables import Dataset, DatasetVersion
from service.jobs import operations as jobs
from service.jobs import queue_position
from service.jobs.queue_position import Wait
from service.jobs.tables import FINAL_STATES, Job, JobEvent, JobLog, Worker
from service.registry.tables import ModelVersion
from service.runs import listing, schemas, training_plan
from service.runs.listing import Filters
from service.runs.tables import Run, RunCheckpoint, RunMetric, RunProgress, RunTag
from service.runs.training_plan import Resolved
from service.shared import storage
from service.shared.errors import Conflict, NotFound
from service.shared.samples import Schema
from service.shared.table_base import new_id

Found = tuple[Run, Job, str, int, int | None, dict[str, Any] | None]

# Made once: who waits for a run polls it, and to put a statement together takes longer than to run it.
_RUNS: Select[*Found] = (
    select(Run, Job, Dataset.name, DatasetVersion.version, ModelVersion.version, RunProgress.metrics)
    .join(Job, Job.id == Run.job_id)
    .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
    .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    .outerjoin(ModelVersion, ModelVersion.run_id == Run.id)
    .outerjoin(RunProgress, RunProgress.run_id == Run.id)
)
_ASKED_FOR = (Run.project_id == bindparam("project_id"), Run.id == bindparam("run_id"))
_RUN = _RUNS.where(*_ASKED_FOR)
_JOB_ID = select(Run.job_id).where(*_ASKED_FOR)
_TAGS = (
    select(RunTag.run_id, RunTag.tag)
    .where(RunTag.run_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(RunTag.tag)
)

QUEUE: Literal["train"] = "train"
KIND = "train"


class Queued(NamedTuple):
    """A run that was queued, and the id of its job, by which a worker is woken once it is committed."""

    run: schemas.Run
    job_id: str


def create(session: Session, project_id: str, request: schemas.RunRequest) -> Queued:
    """Check the request against the dataset and queue it.

    Raises NotFound for an unknown dataset, Conflict for one that is not ready, BadInput with everything that does not
    fit.
    """
    name, number = request.dataset.name, request.dataset.version
    _, version, _ = datasets.ready_version(session, project_id, name, number, lock=True)
    statistics = version.statistics or {}
    schema = Schema.model_validate(version.schema)
    asked = training_plan.resolve(session, project_id, request, schema, version.rows or 0, statistics)
    run = Run(
        project_id=project_id,
        dataset_version_id=version.id,
        model_name=request.model,
        preset=asked.preset,
        architecture=asked.config.model_dump(mode="json"),
        training=asked.training.model_dump(mode="json"),
        init_from=request.init_from and request.init_from.model_dump(mode="json"),
        init_artifact_id=asked.init_artifact_id,
        estimate=_estimate(asked, statistics),
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
    )
    return _queued(session, run, job, request.tags)


def retry(session: Session, project_id: str, run_id: str) -> Queued:
    """Queue a new run that does what a failed or cancelled one was to do, from its last checkpoint.

    Raises NotFound, and Conflict while the run has not ended, or has succeeded.
    """
    run, job = _find(session, project_id, run_id)
    if job.state not in ("failed", "cancelled"):
        raise Conflict("run_cannot_be_retried", f"it is {job.state}, expected failed or cancelled")
    if session.get_one(DatasetVersion, run.dataset_version_id).deleted_at is not None:
        raise Conflict("dataset_deleted", "its dataset version was deleted")
    copied = ("project_id", "dataset_version_id", "model_name", "preset", "architecture", "training", "estimate")
    again = Run(
        **{name: getattr(run, name) for name in (*copied, "init_from", "init_artifact_id", "seed", "description")},
        retry_of=run.id,
    )
    tags = _tags(session, [run.id])[run.id]
    wanted = jobs.create(
        session, project_id, KIND, QUEUE, job.priority, job.max_attempts, job.timeout_seconds, job.devices
    )
    return _queued(session, again, wanted, tags)


def get(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """One run, with its place in the queue. Raises NotFound."""
    row = session.execute(_RUN, {"project_id": project_id, "run_id": run_id}).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return _described(row, _tags(session, [run_id])[run_id], queue_position.find(session, [row[1]])[row[1].id])


def list_runs(
    session: Session, project_id: str, filters: Filters, after: str | None, size: int
) -> list[tuple[str, schemas.Run]]:
    """Runs newest first, each with the id of its job, by which pages go on; those behind the job `after`."""
    found = listing.page(session, project_id, filters, after, size)
    return list(zip(found, _describe(session, found), strict=True))


def cancel(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """Cancel a queued run, or ask a running one to stop. Raises NotFound, and Conflict when it has ended."""
    return _changed(session, project_id, run_id, jobs.cancel)


def pause(session: Session, project_id: str, run_id: str) -> schemas.Run:
    """Pause a queued run, or ask a running one to. Raises NotFound, and Conflict when it has ended."""
    return _changed(session, project_id, run_id, jobs.pause)


def resume(session: Session, project_id: str, run_id: str) -> Queued:
    """Queue a paused run again, from its last checkpoint. Raises NotFound, and Conflict when it has ended."""
    return Queued(_changed(session, project_id, run_id, jobs.resume), job_of(session, project_id, run_id))


def change(session: Session, project_id: str, run_id: str, changes: schemas.RunChanges) -> schemas.Run:
    """Set tags or description. Raises NotFound."""
    run, job = _find(session, project_id, run_id)
    if changes.tags is not None:
        session.execute(delete(RunTag).where(RunTag.run_id == run.id))
        _tag(session, run, changes.tags)
    if "description" in changes.model_fields_set:
        run.description = changes.description
    session.flush()
    return _describe(session, [job.id])[0]


def remove(session: Session, project_id: str, run_id: str) -> None:
    """Forget a run that has ended, with its metrics, history, log and checkpoints; a version that it made stays.

    Raises NotFound, and Conflict while it has not ended.
    """
    run, job = _find(session, project_id, run_id)
    if job.state not in FINAL_STATES:
        raise Conflict("run_has_not_ended", f"it is {job.state}: cancel it first")
    files = session.scalars(select(RunCheckpoint.artifact_id).where(RunCheckpoint.run_id == run.id)).all()
    session.execute(update(ModelVersion).where(ModelVersion.run_id == run.id).values(run_id=None))
    session.execute(update(Worker).where(Worker.job_id == job.id).values(job_id=None))
    session.execute(delete(RunMetric).where(RunMetric.run_id == run.id))
    session.execute(update(Run).where(Run.retry_of == run.id).values(retry_of=None))
    for table in (RunTag, RunProgress, RunCheckpoint):
        session.execute(delete(table).where(table.run_id == run.id))
    init, job_id = run.init_artifact_id, job.id
    session.execute(delete(Run).where(Run.id == run.id))
    for of_job in (JobEvent, JobLog):
        session.execute(delete(of_job).where(of_job.job_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id))
    storage.release(session, [*files, *([init] if init else [])])


def job_of(session: Session, project_id: str, run_id: str) -> str:
    """The id of a run's job. Raises NotFound."""
    job_id = session.scalar(_JOB_ID, {"project_id": project_id, "run_id": run_id})
    if job_id is None:
        raise NotFound("run", run_id)
    return job_id


def evaluation(session: Session, project_id: str, run_id: str) -> schemas.Evaluation:
    """How good a run's model is. Raises NotFound, also for a run that has not ended with a model."""
    run, _ = _find(session, project_id, run_id)
    if run.evaluation is None:
        raise NotFound("evaluation of run", run_id)
    return schemas.Evaluation.model_validate(run.evaluation)


def keep_evaluation(session: Session, run_id: str, found: Mapping[str, Any]) -> None:
    """Record what the trainer found on held-out rows."""
    session.get_one(Run, run_id).evaluation = dict(found)


def _estimate(asked: Resolved, statistics: Mapping[str, Any]) -> dict[str, int | None]:
    steps = statistics.get("lengths", {}).get("maximum", 1)
    size = size_of(asked.config)
    return {"parameters": size and size.parameters, "memory_bytes": memory_bytes(asked.config, asked.training, steps)}


def _queued(session: Session, run: Run, job: Job, tags: Sequence[str]) -> Queued:
    """Add a run whose job is queued."""
    run.id, run.job_id = new_id("run"), job.id
    session.add(run)
    session.flush()
    _tag(session, run, tags)
    session.flush()
    return Queued(get(session, run.project_id, run.id), job.id)


def _tag(session: Session, run: Run, tags: Sequence[str]) -> None:
    for tag in dict.fromkeys(tags):
        session.add(RunTag(run_id=run.id, tag=tag, project_id=run.project_id, job_id=run.job_id))


def _tags(session: Session, run_ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {run_id: [] for run_id in run_ids}
    for run_id, tag in session.execute(_TAGS, {"run_ids": run_ids}):
        found[run_id].append(tag)
    return found


def _find(session: Session, project_id: str, run_id: str) -> tuple[Run, Job]:
    query = select(Run, Job).join(Job, Job.id == Run.job_id).where(Run.project_id == project_id, Run.id == run_id)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return row[0], row[1]


def _changed(session: Session, project_id: str, run_id: str, transition: Any) -> schemas.Run:
    transition(session, job_of(session, project_id, run_id))
    session.expire_all()
    return get(session, project_id, run_id)


def _describe(session: Session, job_ids: Sequence[str]) -> list[schemas.Run]:
    """The runs of these jobs, in their order."""
    rows = {row[1].id: row for row in session.execute(_RUNS.where(Run.job_id.in_(job_ids)))}
    tags = _tags(session, [row[0].id for row in rows.values()])
    waits = queue_position.find(session, [row[1] for row in rows.values()])
    return [_described(rows[job_id], tags[rows[job_id][0].id], waits[job_id]) for job_id in job_ids]


def _described(row: Row[*Found], tags: list[str], waits: Wait) -> schemas.Run:
    run, job, dataset, dataset_version, version, newest = row
    return schemas.Run(
        id=run.id,
        state=job.state,
        phase=job.phase,
        progress=job.progress,
        eta_seconds=job.eta_seconds,
        attempt=job.attempt,
        failures=job.failures,
        preemptions=job.preemptions,
        cancel_requested=job.cancel_requested,
        pause_requested=job.pause_requested,
        queue_position=waits.position,
        waiting_reason=waits.reason,
        error=schemas.RunError.model_validate(job.error) if job.error else None,
        dataset=schemas.DatasetReference(name=dataset, version=dataset_version),
        model=run.model_name,
        version=version,
        preset=run.preset,
        architecture=run.architecture,
        training=run.training,
        init_from=run.init_from,
        seed=run.seed,
        priority=job.priority,
        devices=job.devices,
        max_attempts=job.max_attempts,
        timeout_seconds=job.timeout_seconds,
        retry_of=run.retry_of,
        tags=tags,
        description=run.description,
        estimate=run.estimate,
        metrics=dict(newest or {}),
        created_at=run.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )
