"""The states of a training that are kept: to go on from, to download, to register as a version."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Row, delete, select
from sqlalchemy.orm import Session

from service.runs.tables import Run, RunCheckpoint
from service.shared import storage
from service.shared.errors import NotFound
from service.shared.storage import Stored
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id

# Of those that are made only so that little is lost: the newest, and one to fall back to.
KEPT_INTERVALS = 2


def keep(
    session: Session,
    run_id: str,
    attempt: int,
    stored: Stored,
    max_bytes: int | None,
    step: int,
    reason: str,
    libraries: Mapping[str, str],
    git_revision: str | None,
) -> None:
    """T5: record a checkpoint whose file is durable, in the transaction that renews the attempt's lease.

    max_bytes: what the project may store. libraries, git_revision: what has computed it. Raises TooMany.
    """
    if reason == "interval":
        _forget_older(session, run_id)  # first, so that there is room for the new one
    artifact = storage.record(session, stored, max_bytes)
    checkpoint = RunCheckpoint(
        id=new_id("ckp"),
        run_id=run_id,
        attempt=attempt,
        step=step,
        reason=reason,
        artifact_id=artifact.id,
        libraries=dict(libraries),
        git_revision=git_revision,
    )
    session.add(checkpoint)
    session.flush()


def of_run(session: Session, run_id: str) -> Sequence[Row[RunCheckpoint, Artifact]]:
    """A run's checkpoints with their files, newest first."""
    query = select(RunCheckpoint, Artifact).join(Artifact, Artifact.id == RunCheckpoint.artifact_id)
    newest_first = (RunCheckpoint.step.desc(), RunCheckpoint.id.desc())
    return session.execute(query.where(RunCheckpoint.run_id == run_id).order_by(*newest_first)).all()


def find(session: Session, project_id: str, run_id: str, step: int | None) -> tuple[RunCheckpoint, Artifact]:
    """The checkpoint of a step, or the newest. Raises NotFound."""
    owner = session.scalar(select(Run.id).where(Run.project_id == project_id, Run.id == run_id))
    if owner is None:
        raise NotFound("run", run_id)
    for checkpoint, artifact in of_run(session, run_id):
        if step is None or checkpoint.step == step:
            return checkpoint, artifact
    raise NotFound("checkpoint", f"{run_id} step {'any' if step is None else step}")


def _forget_older(session: Session, run_id: str) -> None:
    """Leave room for one more."""
    of_intervals = (
        select(RunCheckpoint)
        .where(RunCheckpoint.run_id == run_id, RunCheckpoint.reason == "interval")
        .order_by(RunCheckpoint.id.desc())
    )
    old = session.scalars(of_intervals.offset(KEPT_INTERVALS - 1)).all()
    session.execute(delete(RunCheckpoint).where(RunCheckpoint.id.in_([checkpoint.id for checkpoint in old])))
    storage.release(session, [checkpoint.artifact_id for checkpoint in old])
