"""Artifacts in a folder, on a local disk or a shared volume."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from service.shared.s3 import Entry
from service.shared.storage.artifact import Stored, verify
from service.shared.storage.storage import Storage


class FolderStorage(Storage):
    """The folder itself is the store."""

    def keep(self, path: Path, stored: Stored) -> Stored:
        """Rename the file, and sync the folders."""
        final = self.path(stored.project_id, stored.sha256)
        final.parent.mkdir(exist_ok=True)
        path.replace(final)
        for folder in (final.parent, self.root):
            _sync(folder)
        return replace(stored, exists=final.exists)

    def fetch(self, project_id: str, sha256: str, size_bytes: int) -> Path:
        """Check the file."""
        path = self.path(project_id, sha256)
        verify(path, Stored(project_id, sha256, size_bytes))
        return path

    def remove(self, stored: Stored) -> None:
        """Delete the file."""
        self.path(stored.project_id, stored.sha256).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """List the folder."""
        return self.local_files()

    def trim(self) -> None:
        """Do nothing: a folder has no local copies."""


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
