"""Content-addressed artifacts in a folder: written once, durable before any row names them, verified when read."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session
from ulid import ULID

from service.shared.database import Database, find_or_add
from service.shared.tables import Artifact, Table, new_id

CHUNK_BYTES = 1024 * 1024
SWEPT_AT_ONCE = 100


class CorruptArtifact(OSError):
    """A stored file that is missing, or whose size or digest is not what was recorded."""


@dataclass(frozen=True)
class Stored:
    """A file that is durable under its content's name; `path` says where."""

    project_id: str
    sha256: str
    size_bytes: int
    path: Path | None = field(default=None, compare=False)


class Storage:
    """The artifacts of all projects, at `root/PROJECT/SHA256`; unfinished files stand in `root/tmp`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unfinished = root / "tmp"
        self.unfinished.mkdir(parents=True, exist_ok=True)

    def writer(self, project_id: str) -> "Writer":
        """A new file, written piece by piece; leaving its `with` block without `commit` removes it."""
        return Writer(self, project_id)

    def put(self, project_id: str, path: Path) -> Stored:
        """Store a copy of a finished file."""
        with self.writer(project_id) as writer, path.open("rb") as source:
            while piece := source.read(CHUNK_BYTES):
                writer.write(piece)
            return writer.commit()

    def path(self, project_id: str, sha256: str) -> Path:
        """Where an artifact stands; says nothing about whether it is whole."""
        return self.root / project_id / sha256

    def fetch(self, project_id: str, sha256: str, size_bytes: int) -> Path:
        """The path of an artifact whose size and digest were checked just now.

        Raises CorruptArtifact, naming what is wrong.
        """
        path = self.path(project_id, sha256)
        try:
            actual = path.stat().st_size
        except FileNotFoundError as error:
            raise CorruptArtifact(f"artifact {sha256[:12]} is missing from the store") from error
        if actual != size_bytes:
            raise CorruptArtifact(f"artifact {sha256[:12]} has {actual} bytes, expected {size_bytes}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise CorruptArtifact(f"artifact {sha256[:12]} holds other bytes than were written (sha256 {digest[:12]})")
        return path


class Writer:
    """A file on its way into the store: hashed while it is written, synced, then renamed to its content's name."""

    def __init__(self, storage: Storage, project_id: str) -> None:
        self.path = storage.unfinished / str(ULID())
        self.size_bytes = 0
        self._storage = storage
        self._project_id = project_id
        self._digest = hashlib.sha256()
        self._file: BinaryIO = self.path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        """Append to the file."""
        self._file.write(piece)
        self._digest.update(piece)
        self.size_bytes += len(piece)

    def flush(self) -> None:
        """Let readers of `path` see what was written so far."""
        self._file.flush()

    def commit(self) -> Stored:
        """Make the file durable under its final name. The row that names it comes after this."""
        self._file.flush()
        os.fsync(self._file.fileno())
        digest = self._digest.hexdigest()
        final = self._storage.path(self._project_id, digest)
        stored = Stored(self._project_id, digest, self.size_bytes, final)
        final.parent.mkdir(exist_ok=True)
        self.path.replace(final)
        for folder in (final.parent, self._storage.root):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return stored


def record(session: Session, stored: Stored) -> Artifact:
    """The row of a stored file; the same content is one row within a project.

    Raises CorruptArtifact when the file was swept away just now, because its content had been released: put it again.
    """
    _lock(session, stored.project_id)
    same = select(Artifact).where(Artifact.project_id == stored.project_id, Artifact.sha256 == stored.sha256)
    new = Artifact(id=new_id("art"), project_id=stored.project_id, sha256=stored.sha256, size_bytes=stored.size_bytes)
    artifact = find_or_add(session, same, new)
    artifact.state = "available"
    if stored.path is not None and not stored.path.exists():
        raise CorruptArtifact(f"artifact {stored.sha256[:12]} was removed while it was stored again")
    return artifact


def release(session: Session, artifact_ids: Sequence[str]) -> None:
    """Mark those that nothing refers to any more; `sweep` removes them."""
    for artifact_id in artifact_ids:
        if not _is_used(session, artifact_id):
            session.execute(update(Artifact).where(Artifact.id == artifact_id).values(state="deleting"))


def sweep(database: Database, storage: Storage) -> int:
    """Remove the files of released artifacts, and then their rows. Returns how many.

    A file goes before its row, so that a crash between the two leaves a row that is swept again, never a row that
    somebody uses without its file.
    """
    with database.reader() as session:
        released = session.scalars(select(Artifact).where(Artifact.state == "deleting").limit(SWEPT_AT_ONCE)).all()
    for artifact in released:
        with database.writer.begin() as session:
            _lock(session, artifact.project_id)
            state = session.scalar(select(Artifact.state).where(Artifact.id == artifact.id))
            if state != "deleting":
                continue  # the same content was stored again
            if _is_used(session, artifact.id):
                session.execute(update(Artifact).where(Artifact.id == artifact.id).values(state="available"))
                continue
            storage.path(artifact.project_id, artifact.sha256).unlink(missing_ok=True)
            session.execute(delete(Artifact).where(Artifact.id == artifact.id))
    return len(released)


def _is_used(session: Session, artifact_id: str) -> bool:
    """Whether any row of any table refers to an artifact."""
    columns = [
        column
        for table in Table.metadata.tables.values()
        for column in table.columns
        for key in column.foreign_keys
        if key.target_fullname == "artifacts.id"
    ]
    return any(session.scalar(select(column).where(column == artifact_id).limit(1)) for column in columns)


def _lock(session: Session, project_id: str) -> None:
    """Nobody else stores or sweeps files of this project until the transaction ends. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(project_id))))
