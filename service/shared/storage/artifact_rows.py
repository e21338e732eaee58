"""The rows of artifacts. A file is durable before its row is added, and deleted before its row."""

from collections.abc import Sequence

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from service.shared.database import Database, find_or_add
from service.shared.errors import QuotaExceeded
from service.shared.storage.artifact import CorruptArtifact, Stored
from service.shared.storage.storage import Storage
from service.shared.storage.tables import Artifact
from service.shared.table_base import Table, new_id

SWEPT_AT_ONCE = 100


def record(session: Session, stored: Stored, max_bytes: int | None) -> Artifact:
    """The row of a stored file. The same content has one row within a project.

    max_bytes: what the project may store in total, None without a limit. It is compared under the project's lock, so
    that concurrent calls cannot exceed it together.

    Raises QuotaExceeded for a file that does not fit; then call `discard`. Raises CorruptArtifact if `sweep` removed
    the file just now because its content had been released; then store it again.
    """
    lock(session, stored.project_id)
    _check_room(session, stored, max_bytes)
    same = select(Artifact).where(Artifact.project_id == stored.project_id, Artifact.sha256 == stored.sha256)
    new = Artifact(id=new_id("art"), project_id=stored.project_id, sha256=stored.sha256, size_bytes=stored.size_bytes)
    artifact = find_or_add(session, same, new)
    artifact.state = "available"
    if stored.exists is not None and not stored.exists():
        raise CorruptArtifact(f"artifact {stored.sha256[:12]} was removed while it was stored again")
    return artifact


def discard(database: Database, storage: Storage, stored: Stored) -> None:
    """Remove a file that got no row, unless a file of the same content has one."""
    with database.writer.begin() as session:
        lock(session, stored.project_id)
        if session.scalar(_rows_of(stored)) is None:
            storage.remove(stored)


def stored_bytes(session: Session, project_id: str) -> int:
    """The bytes of all artifacts of a project, without those that are released."""
    conditions = Artifact.project_id == project_id, Artifact.state != "deleting"
    return session.scalar(select(func.sum(Artifact.size_bytes)).where(*conditions)) or 0


def release(session: Session, artifact_ids: Sequence[str]) -> None:
    """Mark the artifacts that no row refers to any more; `sweep` removes them."""
    for artifact_id in artifact_ids:
        if not _is_used(session, artifact_id):
            session.execute(update(Artifact).where(Artifact.id == artifact_id).values(state="deleting"))


def release_some(session: Session, project_id: str, at_most: int) -> bool:
    """`release` for some artifacts of a purged project, which has no other rows. Returns False if it had none."""
    kept = select(Artifact.id).where(Artifact.project_id == project_id, Artifact.state == "available").limit(at_most)
    ids = session.scalars(kept).all()
    session.execute(update(Artifact).where(Artifact.id.in_(ids)).values(state="deleting"))
    return bool(ids)


def sweep(database: Database, storage: Storage) -> int:
    """Remove the files of released artifacts, then their rows. Returns the number of artifacts.

    The file is removed first: a crash between the two leaves a released row, which the next call removes.
    """
    with database.reader() as session:
        released = session.scalars(select(Artifact).where(Artifact.state == "deleting").limit(SWEPT_AT_ONCE)).all()
    for artifact in released:
        with database.writer.begin() as session:
            lock(session, artifact.project_id)
            state = session.scalar(select(Artifact.state).where(Artifact.id == artifact.id))
            if state != "deleting":
                continue  # the same content was stored again
            if _is_used(session, artifact.id):
                session.execute(update(Artifact).where(Artifact.id == artifact.id).values(state="available"))
                continue
            storage.remove(artifact.file)
            session.execute(delete(Artifact).where(Artifact.id == artifact.id))
    return len(released)


def lock(session: Session, project_id: str) -> None:
    """Lock the files of a project until the transaction ends. SQLite has a single writer and needs no lock."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(project_id))))


def _check_room(session: Session, stored: Stored, max_bytes: int | None) -> None:
    if max_bytes is None or session.scalar(_rows_of(stored).where(Artifact.state != "deleting")) is not None:
        return
    used = stored_bytes(session, stored.project_id)
    if used + stored.size_bytes > max_bytes:
        total = f"the project stores {used} of at most {max_bytes} bytes"
        raise QuotaExceeded(f"the file has {stored.size_bytes} bytes, and {total}")


def _rows_of(stored: Stored) -> Select[str]:
    return select(Artifact.id).where(Artifact.project_id == stored.project_id, Artifact.sha256 == stored.sha256)


def _is_used(session: Session, artifact_id: str) -> bool:
    """Whether a row of any table refers to an artifact."""
    columns = [
        column
        for table in Table.metadata.tables.values()
        for column in table.columns
        for key in column.foreign_keys
        if key.target_fullname == "artifacts.id"
    ]
    return any(session.scalar(select(column).where(column == artifact_id).limit(1)) for column in columns)
