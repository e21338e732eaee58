"""Shows some rows of a stored dataset."""

import threading
from typing import Any

import numpy as np
from cachetools import LRUCache

from service.datasets.export.jsonl import values_of
from service.shared import samples as stored_samples
from service.shared.errors import BadInput, Fault
from service.shared.samples import SPLITS, Samples, longest
from service.shared.storage import Storage, Stored

MAX_NUMBERS = 1_000_000
MAX_CHARACTERS = 16 * 1024**2
MAX_OPEN = 16


class Readers:
    """The stored datasets that were shown last. Each is verified once, then read from the mapped file."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._open: LRUCache[Stored, Samples] = LRUCache(MAX_OPEN)
        self._lock = threading.Lock()

    def open(self, file: Stored) -> Samples:
        """The samples of a file. Raises CorruptArtifact."""
        with self._lock:
            if (known := self._open.get(file)) is not None:
                return known
        opened = stored_samples.open(self._storage.fetch(file.project_id, file.sha256, file.size_bytes))
        with self._lock:
            self._open[file] = opened
        return opened


def preview(samples: Samples, first: int, rows: int, max_steps: int) -> dict[str, Any]:
    """The body of the answer, with NumPy arrays. Raises BadInput if it would be too large."""
    last = min(samples.rows, first + rows)
    row_size = sum(int(np.prod(modality.shape)) for modality in samples.schema.modalities)
    if samples.offsets is not None:
        row_size *= max_steps
    if row_size * (last - first) > MAX_NUMBERS:
        detail = (
            f"the rows may have {row_size * (last - first)} numbers, expected at most {MAX_NUMBERS}: ask for fewer rows"
        )
        raise BadInput([Fault("?rows", "too_many_numbers", detail)])
    names = sum(max([0, *(len(str(name)) for name in m.category_names or ())]) for m in samples.schema.modalities)
    if samples.offsets is not None:
        names *= max_steps
    characters = (names + longest(samples.ids) + longest(samples.labels)) * (last - first)
    if characters > MAX_CHARACTERS:
        detail = (
            f"the rows may have {characters} characters of text, expected at most {MAX_CHARACTERS}: ask for fewer rows"
        )
        raise BadInput([Fault("?rows", "too_much_text", detail)])
    shown_rows = [
        {
            "row": row,
            "id": samples.ids[row] if samples.ids is not None else None,
            "label": samples.labels[row] if samples.labels is not None else None,
            "split": SPLITS[samples.splits[row]] if samples.splits is not None else None,
            "values": values_of(samples, row, max_steps),
        }
        for row in range(first, last)
    ]
    return {"rows": shown_rows, "total_rows": samples.rows}
