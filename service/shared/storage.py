"""Content-addressed artifacts in a folder: written once, durable before any row names them, verified when read."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from sqlalchemy import select
from sqlalchemy.orm import Session
from ulid import ULID

from service.shared.database import find_or_add
from service.shared.tables import Artifact, new_id

CHUNK_BYTES = 1024 * 1024


class CorruptArtifact(OSError):
    """A stored file that is missing, or whose size or digest is not what was recorded."""


@dataclass(frozen=True)
class Stored:
    """A file that is durable under its content's name."""

    project_id: str
    sha256: str
    size_bytes: int


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
        stored = Stored(self._project_id, self._digest.hexdigest(), self.size_bytes)
        final = self._storage.path(self._project_id, stored.sha256)
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
    """The row of a stored file; the same content is one row within a project."""
    same = select(Artifact).where(Artifact.project_id == stored.project_id, Artifact.sha256 == stored.sha256)
    new = Artifact(id=new_id("art"), project_id=stored.project_id, sha256=stored.sha256, size_bytes=stored.size_bytes)
    return find_or_add(session, same, new)
