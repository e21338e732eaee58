"""The stored datasets that the API has open. Each is verified once, then read from the mapped file."""

import threading

from cachetools import LRUCache

from service.shared import samples
from service.shared.samples import Samples
from service.shared.storage import Storage, Stored

MAX_OPEN = 16


class Readers:
    """The datasets that were read last."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._open: LRUCache[Stored, Samples] = LRUCache(MAX_OPEN)
        self._lock = threading.Lock()

    def open(self, file: Stored) -> Samples:
        """The samples of a file. Raises CorruptArtifact."""
        with self._lock:
            if (known := self._open.get(file)) is not None:
                return known
        opened = samples.open(self._storage.fetch(file.project_id, file.sha256, file.size_bytes))
        with self._lock:
            self._open[file] = opened
        return opened
