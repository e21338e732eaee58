"""Artifacts in a bucket, with local copies of those that were used last."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from ulid import ULID

from service.shared.disk_space import Space
from service.shared.errors import StorageFull
from service.shared.full_disk import is_disk_full
from service.shared.s3 import Bucket, Entry
from service.shared.storage.artifact import CorruptArtifact, Stored, verify
from service.shared.storage.storage import Storage

# A copy stays for at least this long after `fetch`: a trainer gets several paths, and opens them seconds later.
MIN_AGE = timedelta(minutes=10)


class BucketStorage(Storage):
    """The bucket is the store. `root` holds at most `cache_bytes` of copies, and those used within MIN_AGE."""

    def __init__(self, root: Path, bucket: Bucket, cache_bytes: int, space: Space | None = None) -> None:
        super().__init__(root, space)
        self.bucket = bucket
        self._cache_bytes = cache_bytes

    def keep(self, path: Path, stored: Stored) -> Stored:
        """Put the file into the bucket; it becomes its first copy."""
        try:
            self.bucket.put(stored.key, path)
        except StorageFull:
            self.space.refused("bucket")
            raise
        self._add_copy(path, stored)
        return replace(stored, exists=partial(self.bucket.exists, stored.key))

    def fetch(self, project_id: str, sha256: str, size_bytes: int) -> Path:
        """Check the copy. A copy that is missing or damaged is downloaded again."""
        path, stored = self.path(project_id, sha256), Stored(project_id, sha256, size_bytes)
        try:
            os.utime(path)  # before it is read, so that `trim` keeps it meanwhile
            verify(path, stored)
        except (FileNotFoundError, CorruptArtifact):
            self._download(stored)
        return path

    def remove(self, stored: Stored) -> None:
        """Delete the object and its copy."""
        self.bucket.remove(stored.key)
        self.path(stored.project_id, stored.sha256).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """List the bucket."""
        return self.bucket.entries()

    def trim(self) -> None:
        """Delete the least recently used copies while there are more than `cache_bytes`, or while the disk is full.

        A process that has a deleted copy open or mapped can still read it.
        """
        copies = sorted(self.local_files(), key=lambda entry: entry.modified_at)
        room = self._cache_bytes - sum(entry.size_bytes for entry in copies)
        if (on_disk := self.space.room("storage")) is not None:
            room = min(room, on_disk)
        for entry in copies:
            if room >= 0 or datetime.now(UTC) - entry.modified_at < MIN_AGE:
                return
            (self.root / entry.key).unlink(missing_ok=True)
            room += entry.size_bytes

    def _download(self, stored: Stored) -> None:
        partial_copy = self.unfinished / str(ULID())
        try:
            with partial_copy.open("wb") as file:
                for piece in self.bucket.get(stored.key):
                    file.write(piece)
            verify(partial_copy, stored)
            self._add_copy(partial_copy, stored)
        except FileNotFoundError as error:
            raise CorruptArtifact(f"artifact {stored.sha256[:12]} is missing from the store") from error
        except OSError as error:
            if is_disk_full(error):
                raise StorageFull("storage") from error
            raise
        finally:
            partial_copy.unlink(missing_ok=True)

    def _add_copy(self, path: Path, stored: Stored) -> None:
        copy = self.path(stored.project_id, stored.sha256)
        copy.parent.mkdir(exist_ok=True)
        path.replace(copy)
        self.trim()
