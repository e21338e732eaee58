"""The interface of artifact stores, and what all of them share: files are written in a local folder first."""

import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ulid import ULID

from service.shared.disk_space import Space
from service.shared.s3 import Entry
from service.shared.storage.artifact import Stored
from service.shared.storage.writer import Writer

UNFINISHED = "tmp"


class Storage(ABC):
    """The artifacts of all projects.

    `root` is a local folder. Files that are being written are in `root/tmp`; finished files, or copies of them, are at
    `root/PROJECT/SHA256`. `space` measures the free space of the disks.
    """

    def __init__(self, root: Path, space: Space | None = None) -> None:
        self.root = root
        self.unfinished = root / UNFINISHED
        self.space = space or Space({}, 0, None)
        self.unfinished.mkdir(parents=True, exist_ok=True)

    def writer(self, project_id: str) -> Writer:
        """A new file, written in pieces. Leaving its `with` block without `commit` removes it."""
        return Writer(self.unfinished, project_id, self.space, self.keep)

    def adopt(self, project_id: str, path: Path) -> Stored:
        """Move a finished file into the store; from another file system it is copied."""
        copy = self.unfinished / str(ULID())
        try:
            if path.stat().st_dev != self.unfinished.stat().st_dev:
                path = Path(shutil.move(path, copy))
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            return self.keep(path, Stored(project_id, digest, path.stat().st_size))
        finally:
            copy.unlink(missing_ok=True)  # a part of it, if the disk was full

    def path(self, project_id: str, sha256: str) -> Path:
        """The local path of an artifact. The file may not exist, and its content is not checked."""
        return self.root / project_id / sha256

    @abstractmethod
    def keep(self, path: Path, stored: Stored) -> Stored:
        """Give a synced file its final name. Its row is added after this."""

    @abstractmethod
    def fetch(self, project_id: str, sha256: str, size_bytes: int) -> Path:
        """The local path of an artifact whose size and digest were just checked.

        Raises CorruptArtifact, StorageAway and StorageFull.
        """

    @abstractmethod
    def remove(self, stored: Stored) -> None:
        """Delete a file, if it exists."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """All finished files."""

    @abstractmethod
    def trim(self) -> None:
        """Delete local copies that are not needed, where the store has such copies."""

    def local_files(self) -> Iterator[Entry]:
        """All finished files in the local folder."""
        for path in self.root.glob("*/*"):
            if path.parent != self.unfinished:
                yield from _entry(path, f"{path.parent.name}/{path.name}")

    def leftovers(self) -> Iterator[Entry]:
        """Files that are being written, and those of processes that were killed."""
        for path in self.unfinished.iterdir():
            yield from _entry(path, f"{UNFINISHED}/{path.name}")


def _entry(path: Path, key: str) -> Iterator[Entry]:
    """The file, unless it was deleted meanwhile."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    yield Entry(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
