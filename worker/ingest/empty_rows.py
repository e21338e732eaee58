"""Leaves out rows in which no modality has a value: a model learns nothing from them."""

from collections.abc import Sequence

import numpy as np

from service.datasets.layout import DataWarning
from service.shared.samples import Samples
from worker.ingest.block import Array

MAX_NAMED = 10


class EmptyRows:
    """Removes the empty rows from the pieces of a dataset, counts them and keeps the numbers of the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[int] = []

    def left_out_of(self, piece: Samples, first_row: int) -> Samples:
        """The piece without its empty rows; first_row is the number of its first row in the file."""
        keep = np.logical_or.reduce(list(piece.present.values()))
        if piece.offsets is not None:
            before = np.concatenate([[0], np.cumsum(keep)])
            keep = np.diff(before[piece.offsets]) > 0
        if keep.all():
            return piece
        empty = np.flatnonzero(~keep)
        self.count += len(empty)
        self._first += [first_row + int(row) for row in empty[: MAX_NAMED - len(self._first)]]
        return _only(piece, keep)

    def warnings(self) -> list[DataWarning]:
        """A warning with the number of empty rows, if there are any."""
        if not self.count:
            return []
        rows = ", ".join(map(str, self._first)) + (", …" if self.count > len(self._first) else "")
        detail = f"{self.count} of the file's rows have no value of any modality and were left out: {rows}"
        return [DataWarning("empty_rows", detail)]


def _only(piece: Samples, keep: Array) -> Samples:
    """The rows of a piece where `keep`, (rows,) bool, is true."""
    values, offsets = keep, piece.offsets
    if offsets is not None:
        lengths = np.diff(offsets)
        values = np.repeat(keep, lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64)
    return Samples(
        schema=piece.schema,
        rows=int(keep.sum()),
        values={name: array[values] for name, array in piece.values.items()},
        present={name: array[values] for name, array in piece.present.items()},
        offsets=offsets,
        splits=None if piece.splits is None else piece.splits[keep],
        ids=_texts(piece.ids, keep),
        labels=_texts(piece.labels, keep),
    )


def _texts(texts: Sequence[str | None] | None, keep: Array) -> list[str | None] | None:
    return None if texts is None else [texts[row] for row in np.flatnonzero(keep).tolist()]
