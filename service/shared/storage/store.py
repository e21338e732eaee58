"""Files under their content's names: in a folder, or in a bucket whose files the folder has copies of."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ulid import ULID

from service.shared.bucket import Bucket, Entry
from service.shared.disk_space import Space
from service.shared.errors import StorageFull
from service.shared.full_disk import tells_of_full
from service.shared.settings import Settings
from service.shared.storage.artifact import CorruptArtifact, Stored

CHUNK_BYTES = 1024 * 1024
UNFINISHED = "tmp"
# A copy whose path was given out may not be open yet: a trainer gets several, and takes seconds to start.
HANDED_OUT = timedelta(minutes=10)


def from_settings(settings: Settings) -> "Storage":
    """The store that an installation has chosen."""
    bucket = Bucket(settings.bucket_url, settings) if settings.bucket_url else None
    return Storage(settings.artifacts, bucket, settings.cache_bytes, Space.of(settings))


class Storage:
    """The artifacts of all projects at `root/PROJECT/SHA256`; unfinished files stand in `root/tmp`.

    With a bucket that is where they are kept, and `root` holds copies: at most `cache_bytes` of them, those that were
    used last, and whatever was used within `HANDED_OUT`. `space` is what is left of the disks.
    """

    def __init__(
        self, root: Path, bucket: Bucket | None = None, cache_bytes: int | None = None, space: Space | None = None
    ) -> None:
        self.root = root
        self.unfinished = root / UNFINISHED
        self.bucket = bucket
        self.space = space or Space({}, 0, None)
        self._cache_bytes = cache_bytes
        self.unfinished.mkdir(parents=True, exist_ok=True)

    def writer(self, project_id: str) -> "Writer":
        """A new file, written piece by piece; leaving its `with` block without `commit` removes it.

        Raises StorageFull, as each piece may.
        """
        self.space.check()
        return Writer(self, project_id)

    def adopt(self, project_id: str, path: Path) -> Stored:
        """Store a finished file, which is moved: where it was it is no more. Copied from another file system."""
        copied = self.unfinished / str(ULID())
        try:
            if path.stat().st_dev != self.unfinished.stat().st_dev:
                path = Path(shutil.move(path, copied))
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            return self.keep(path, Stored(project_id, digest, path.stat().st_size))
        finally:
            copied.unlink(missing_ok=True)  # half of it, where there was no space for the rest

    def keep(self, path: Path, stored: Stored) -> Stored:
        """Give a synced file its final name. The row that names it comes after this."""
        if self.bucket is not None:
            try:
                self.bucket.put(stored.key, path)
            except StorageFull:
                self.space.refused("bucket")
                raise
        final = self.path(stored.project_id, stored.sha256)
        final.parent.mkdir(exist_ok=True)
        path.replace(final)
        if self.bucket is None:
            for folder in (final.parent, self.root):
                _sync(folder)
        self.trim()
        return replace(stored, is_there=lambda: self._has(stored))

    def path(self, project_id: str, sha256: str) -> Path:
        """Where an artifact, or the copy of one, stands; says nothing about whether it is whole, or there."""
        return self.root / project_id / sha256

    def fetch(self, project_id: str, sha256: str, size_bytes: int) -> Path:
        """The path of an artifact whose size and digest were checked just now.

        Raises CorruptArtifact, naming what is wrong, StorageAway and StorageFull.
        """
        path, stored = self.path(project_id, sha256), Stored(project_id, sha256, size_bytes)
        if self.bucket is None:
            _verify(path, stored)
            return path
        try:
            os.utime(path)  # it was used last; before it is read, so that it is not dropped meanwhile
            _verify(path, stored)
        except (FileNotFoundError, CorruptArtifact):  # not here yet, or spoiled here: the bucket has it
            self._download(self.bucket, path, stored)
        return path

    def remove(self, stored: Stored) -> None:
        """Delete a file, if there is one."""
        if self.bucket is not None:
            self.bucket.remove(stored.key)
        self.path(stored.project_id, stored.sha256).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """All files that are kept, finished ones alone."""
        return self.bucket.entries() if self.bucket is not None else self.copies()

    def copies(self) -> Iterator[Entry]:
        """All finished files in the folder."""
        for path in self.root.glob("*/*"):
            if path.parent != self.unfinished:
                yield from _entry(path, f"{path.parent.name}/{path.name}")

    def leftovers(self) -> Iterator[Entry]:
        """Files in the folder that are being written, or that somebody left behind who was killed."""
        for path in self.unfinished.iterdir():
            yield from _entry(path, f"{UNFINISHED}/{path.name}")

    def _has(self, stored: Stored) -> bool:
        if self.bucket is not None:
            return self.bucket.size(stored.key) is not None
        return self.path(stored.project_id, stored.sha256).exists()

    def trim(self) -> None:
        """Drop the copies that were used longest ago, for more than `cache_bytes` or where their disk is full.

        Who has a dropped copy open, or mapped, keeps it.
        """
        if self.bucket is None or self._cache_bytes is None:
            return
        copies = sorted(self.copies(), key=lambda entry: entry.modified_at)
        room = self._cache_bytes - sum(entry.size_bytes for entry in copies)
        if (left := self.space.room("storage")) is not None:
            room = min(room, left)
        for entry in copies:
            if room >= 0 or datetime.now(UTC) - entry.modified_at < HANDED_OUT:
                return
            (self.root / entry.key).unlink(missing_ok=True)
            room += entry.size_bytes

    def _download(self, bucket: Bucket, path: Path, stored: Stored) -> None:
        partial = self.unfinished / str(ULID())
        try:
            with partial.open("wb") as file:
                for piece in bucket.get(stored.key):
                    file.write(piece)
            _verify(partial, stored)
            path.parent.mkdir(exist_ok=True)
            partial.replace(path)
        except FileNotFoundError as error:
            raise CorruptArtifact(f"artifact {stored.sha256[:12]} is missing from the store") from error
        except OSError as error:
            if tells_of_full(error):
                raise StorageFull("storage") from error
            raise
        finally:
            partial.unlink(missing_ok=True)
        self.trim()


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
        with contextlib.suppress(OSError):  # there is no space for what is still in its buffer
            self._file.close()
        self.path.unlink(missing_ok=True)

    def expect(self, size_bytes: int) -> None:
        """Raise StorageFull when there is no space for a file of this size."""
        self._storage.space.check(size_bytes)

    def write(self, piece: bytes) -> None:
        """Append to the file. Raises StorageFull."""
        if self.size_bytes // CHUNK_BYTES != (self.size_bytes + len(piece)) // CHUNK_BYTES:
            self._storage.space.check()
        self._file.write(piece)
        self._digest.update(piece)
        self.size_bytes += len(piece)

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()

    def flush(self) -> None:
        """Let readers of `path` see what was written so far."""
        self._file.flush()

    def commit(self) -> Stored:
        """Make the file durable under its final name. The row that names it comes after this."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._storage.keep(self.path, Stored(self._project_id, self.sha256, self.size_bytes))


def _verify(path: Path, stored: Stored) -> None:
    name = f"artifact {stored.sha256[:12]}"
    try:
        with path.open("rb") as file:
            actual = os.fstat(file.fileno()).st_size
            if actual != stored.size_bytes:
                raise CorruptArtifact(f"{name} has {actual} bytes, expected {stored.size_bytes}")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise CorruptArtifact(f"{name} is missing from the store") from error
    if digest != stored.sha256:
        raise CorruptArtifact(f"{name} holds other bytes than were written (sha256 {digest[:12]})")


def _entry(path: Path, key: str) -> Iterator[Entry]:
    """The file, unless it is gone by now."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    yield Entry(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
