"""What every format is read into: blocks of rows, each modality with its own values, presence, lengths and times."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from service.datasets.layout import Declaration, Layout
from worker.ingest.faults import Faults

Array = np.ndarray[Any, np.dtype[Any]]

# Bytes of values in a block: large enough that NumPy does the work, small enough to keep several in memory.
BLOCK_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Column:
    """One modality of the rows of a block. Sequences stand behind one another: V is the number of their time steps.

    values: (V, *shape), whatever where absent. present: (V,) bool. lengths: (rows,) int64, and times: (V,) float64 in
    seconds; both None for single values, times also where the file has none. V is `rows` for single values.
    """

    values: Array
    present: Array
    lengths: Array | None = None
    times: Array | None = None


@dataclass(frozen=True)
class Block:
    """Some rows behind one another: every modality of the layout, and what rides along."""

    first_row: int
    rows: int
    columns: Mapping[str, Column]
    ids: Sequence[str | None] | None = None
    labels: Sequence[str | None] | None = None
    splits: Sequence[str | None] | None = None
    """As the file has them, before they are understood."""


@dataclass(frozen=True)
class ReadOptions:
    """What a reader is given beside the file and its declaration."""

    max_bytes: int
    """The file may have this many bytes once unpacked."""
    scratch: Path
    """An existing folder for what does not fit in memory."""
    faults: Faults
    """Collects what is wrong with values, so that reading goes on and finds more."""


class Source(Protocol):
    """A file that is read once from its beginning to its end."""

    declaration: Declaration
    """What the caller declared, completed with what the file says of itself."""
    layout: Layout
    """Its modalities, sorted by name."""
    category_names: Mapping[str, tuple[int | str, ...]]
    """Of the modalities whose categories have names. Texts of the file are read as indices of these."""

    def blocks(self) -> Iterator[Block]:
        """All rows, in order. Raises BadInput where the file cannot be read on."""

    def fraction(self) -> float:
        """How much of it was read, from 0 to 1."""


Reader = Callable[[Path, Declaration, ReadOptions], Source]
"""Opens a file of one format. Raises BadInput for a file that cannot become a dataset."""
