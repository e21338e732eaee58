"""The size of rows in stored form, computed before memory of that size is allocated."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.datasets.layout import Layout
from service.shared.errors import BadInput, Fault
from worker.ingest.block import BLOCK_BYTES, Array, Block
from worker.ingest.nested import bytes_of
from worker.ingest.nested_survey import MAX_ROW_BYTES

QUOTA = "quota_exceeded"


@dataclass(frozen=True)
class Limits:
    """Limits of a stored dataset, in bytes. room: what the quota leaves to the project."""

    max_bytes: int | None = None
    room: int | None = None


NO_LIMITS = Limits()


class StoredSize:
    """Adds up the stored size of a dataset, and cuts its blocks into pieces that fit in memory."""

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._row_bytes = 8 if layout.kind == "sequence" else 0  # the offset of a row
        self._step_bytes = sum(bytes_of(m.shape, m.dtype) + 1 for m in layout.modalities)  # values and presence

    def cuts(self, block: Block, lengths: Array) -> Iterator[tuple[int, int]]:
        """Row ranges of the pieces of a block. lengths: (rows,), the number of common steps.

        Raises BadInput for a row, or a dataset, that is too large.
        """
        sizes = lengths.astype(np.int64) * self._step_bytes + self._row_bytes
        for row in np.flatnonzero(sizes > MAX_ROW_BYTES)[:1]:
            detail = (
                f"row {block.first_row + row} has {lengths[row]} common time steps and {sizes[row]} bytes in the stored"
                f" form, expected at most {MAX_ROW_BYTES}: cut it into several rows, or take a larger step_seconds"
            )
            raise BadInput([Fault("", "too_large", detail)])
        texts = sum(len(text or "") + 8 for column in (block.ids, block.labels) for text in column or ())
        self._count(int(sizes.sum()) + texts)
        ends = np.cumsum(sizes)
        first = 0
        while first < block.rows:
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + 4 * BLOCK_BYTES, "right")))
            yield first, min(last, block.rows)
            first = last

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._limits.max_bytes is not None and self._bytes > self._limits.max_bytes:
            detail = (
                f"the values have {self._bytes} bytes or more in the stored form, expected at most"
                f" {self._limits.max_bytes}: make several datasets of them"
            )
            raise BadInput([Fault("", "too_large", detail)])
        if self._limits.room is not None and self._bytes > self._limits.room:
            detail = (
                f"the dataset has {self._bytes} bytes or more in the stored form, {max(0, self._limits.room)} are left"
                " of what the project may store: delete something, or ask for a larger quota"
            )
            raise BadInput([Fault("", QUOTA, detail)], code=QUOTA)
