"""The form that every reader produces: blocks of rows, with values, presence, lengths and times per modality."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from service.datasets.declaration import Declaration
from service.datasets.layout import Layout
from worker.ingest.faults import Faults

Array = np.ndarray[Any, np.dtype[Any]]

# Bytes of values in a block: large enough that NumPy does the work, small enough to keep several in memory.
BLOCK_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Column:
    """One modality of the rows of a block. Sequences are concatenated: V is the number of all their time steps.

    values: (V, *shape), arbitrary where absent. present: (V,) bool. lengths: (rows,) int64, and times: (V,) float64 in
    seconds; both None for single values, times also where the file has none. V is `rows` for single values.
    """

    values: Array
    present: Array
    lengths: Array | None = None
    times: Array | None = None


@dataclass(frozen=True)
class Block:
    """Consecutive rows: every modality of the layout, with the ids, labels and splits of the rows."""

    first_row: int
    rows: int
    columns: Mapping[str, Column]
    ids: Sequence[str | None] | None = None
    labels: Sequence[str | None] | None = None
    splits: Sequence[str | None] | None = None
    """The texts of the file, not parsed yet."""


@dataclass(frozen=True)
class ReadOptions:
    """The options of a reader, beside the file and its declaration."""

    max_bytes: int
    """The maximum size of the unpacked file."""
    scratch: Path
    """An existing folder for what does not fit in memory."""
    faults: Faults
    """Collects the faults of values, so that one reading reports several of them."""


class Source(Protocol):
    """A file that is read once from its beginning to its end."""

    declaration: Declaration
    """The caller's declaration, completed by the file's own schema."""
    layout: Layout
    """Its modalities, sorted by name."""
    category_names: Mapping[str, tuple[int | str, ...]]
    """The names of categories by modality. Texts of the file are stored as indices into these names."""

    def blocks(self) -> Iterator[Block]:
        """All rows, in order. Raises BadInput if the rest of the file cannot be read."""

    def fraction(self) -> float:
        """The fraction of the file that was read, from 0 to 1."""


Reader = Callable[[Path, Declaration, ReadOptions], Source]
"""Opens a file of one format. Raises BadInput for a file that cannot become a dataset."""
