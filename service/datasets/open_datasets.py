"""Stored datasets that the API has open: verified once, then read from the mapped file."""

import threading
from typing import NamedTuple

from cachetools import LRUCache

from service.shared import samples
from service.shared.samples import Samples
from service.shared.storage import Storage

MOST_OPEN = 16


class StoredFile(NamedTuple):
    """What of an artifact's row it takes to find its file."""

    project_id: str
    sha256: str
    size_bytes: int


class Readers:
    """The datasets that were read last."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._open: LRUCache[StoredFile, Samples] = LRUCache(MOST_OPEN)
        self._lock = threading.Lock()

    def open(self, file: StoredFile) -> Samples:
        """The samples of a file. Raises CorruptArtifact when it is not what was stored."""
        with self._lock:
            if (known := self._open.get(file)) is not None:
                return known
        opened = samples.open(self._storage.fetch(*file))
        with self._lock:
            self._open[file] = opened
        return opened
