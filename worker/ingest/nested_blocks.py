"""Makes blocks of batches of Arrow columns; a value that does not fit is reported with row, step and element."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from service.datasets.declaration import Declaration
from service.datasets.layout import TIME, Layout, PlannedModality
from service.shared.errors import BadInput, Fault, pointer
from worker.ingest import nested_arrow as arrow
from worker.ingest.block import BLOCK_BYTES, Array, Block, Column
from worker.ingest.faults import Faults
from worker.ingest.nested import Nested, bytes_of
from worker.ingest.nested_survey import MAX_ROW_BYTES, too_large

Texts = Sequence[str | None]


@dataclass(frozen=True)
class Batch:
    """Some rows of a file: columns and their times by name, and texts by role."""

    rows: int
    columns: Mapping[str, pa.Array]
    texts: Mapping[str, Texts]


class Unpacker:
    """Makes blocks of batches; `rows` is the number of rows so far."""

    def __init__(
        self,
        layout: Layout,
        category_names: Mapping[str, tuple[int | str, ...]],
        timed: set[str],
        declaration: Declaration,
        max_bytes: int,
    ) -> None:
        self.rows = 0
        self._null_is_nan = declaration.nan == "missing"
        self._layout = layout
        self._axis = 1 if layout.kind == "sequence" else 0
        self._step_bytes = sum(bytes_of(modality.shape, modality.dtype) for modality in layout.modalities)
        self._codes = {name: {word: code for code, word in enumerate(words)} for name, words in category_names.items()}
        self._timed = timed
        self._bytes = 0
        self._max_bytes = max_bytes
        self._faults = Faults()

    def blocks(self, batches: Iterable[Batch]) -> Iterator[Block]:
        """All rows. After the first fault, no block follows: BadInput is raised at the end, with up to 100 faults."""
        for batch in batches:
            for first, last in self._cuts(batch):
                block = self._block(batch, first, last)
                if not self._faults:
                    yield block
                self.rows += block.rows
        self._faults.raise_if_any()

    def _cuts(self, batch: Batch) -> Iterator[tuple[int, int]]:
        """Row ranges of a batch, one per block. Raises BadInput for a row, or a file, that is too large."""
        sizes = np.full(batch.rows, self._step_bytes)
        if self._axis:
            lengths = [arrow.lengths(batch.columns[modality.column]) for modality in self._layout.modalities]
            sizes *= np.maximum.reduce(lengths)
        for texts in batch.texts.values():
            sizes += np.fromiter((len(text or "") for text in texts), np.int64, len(texts))
        for row in np.flatnonzero(sizes > MAX_ROW_BYTES)[:1]:
            detail = f"row {self.rows + row} has {sizes[row]} bytes of values, expected at most {MAX_ROW_BYTES}"
            raise BadInput([Fault("", "too_large", detail)])
        self._bytes += int(sizes.sum())
        if self._bytes > self._max_bytes:
            raise too_large(self._bytes, self._max_bytes)
        ends = np.cumsum(sizes)
        first = 0
        while first < batch.rows:
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + BLOCK_BYTES, "right")))
            yield first, last
            first = last

    def _block(self, batch: Batch, first: int, last: int) -> Block:
        columns = {m.name: self._column(m, batch, first, last) for m in self._layout.modalities}
        texts = {role: rows[first:last] for role, rows in batch.texts.items()}
        return Block(self.rows, last - first, columns, texts.get("ids"), texts.get("labels"), texts.get("split"))

    def _column(self, modality: PlannedModality, batch: Batch, first: int, last: int) -> Column:
        nested = arrow.nested_of(batch.columns[modality.column].slice(first, last - first))
        values, present = nested.filled(
            modality.column, self._axis, modality.shape, self.rows, self._null_is_nan, self._faults
        )
        if modality.text:
            codes = self._codes[modality.name]
            values = np.array([*(codes[word] for word in nested.words), 0], np.int64)[values]
        if not self._axis:
            return Column(values, present)
        lengths = nested.levels[0].lengths
        if modality.column not in self._timed:
            return Column(values, present, lengths)
        times = arrow.nested_of(batch.columns[modality.column + TIME].slice(first, last - first))
        return Column(values, present, lengths, self._times(modality.column, times, lengths))

    def _times(self, name: str, times: Nested, expected: Array) -> Array:
        given = times.levels[0].lengths
        for row in np.flatnonzero(given != expected)[: self._faults.room()]:
            detail = f"{name}{TIME} has {given[row]} times at row {self.rows + row}, expected {expected[row]}, "
            detail += f"one for each time step of {name!r}"
            self._faults.add(Fault(pointer(name + TIME, self.rows + int(row)), "bad_times", detail))
        seconds = times.values.astype(np.float64)
        return seconds if times.given is None else np.where(times.given, seconds, np.nan)
