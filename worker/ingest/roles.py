"""The splits of rows: declared fractions, or a column of the file."""

from collections.abc import Iterable, Sequence

import numpy as np

from service.datasets.declaration import Declaration, SplitColumn, SplitFractions
from service.shared.errors import Fault, pointer
from service.shared.samples import SPLITS
from worker.ingest.block import Array, Block
from worker.ingest.faults import Faults

NAMES = {"train": 0, "training": 0, "0": 0, "valid": 1, "val": 1, "validation": 1, "1": 1, "test": 2, "2": 2}


def are_splits(words: Iterable[str | None]) -> bool:
    """Whether all words are names of splits, and none is a number."""
    return all(word is not None and not word.isdigit() and word.strip().lower() in NAMES for word in words)


class Splits:
    """Assigns a split to every row, as an index into SPLITS, block by block."""

    def __init__(self, declaration: Declaration) -> None:
        self._declared = declaration.split
        if isinstance(self._declared, SplitFractions):
            # one uniform number per row, in order: the split of a row does not depend on the sizes of blocks
            self._random = np.random.Generator(np.random.Philox(self._declared.seed))

    def of(self, block: Block, faults: Faults) -> Array | None:
        """(rows,) uint8, or None if there are no splits. Adds a fault for a word that is no name of a split."""
        if isinstance(self._declared, SplitFractions):
            drawn = self._random.random(block.rows)
            test = drawn < self._declared.test
            return np.where(test, 2, drawn < self._declared.test + self._declared.validation).astype(np.uint8)
        if isinstance(self._declared, SplitColumn):
            return _understood(block.splits or [None] * block.rows, self._declared.column, block.first_row, faults)
        return None if block.splits is None else _understood(block.splits, "split", block.first_row, faults)


def _understood(words: Sequence[str | None], column: str, first_row: int, faults: Faults) -> Array:
    found = [NAMES.get((word or "").strip().lower(), len(SPLITS)) for word in words]
    for row in np.flatnonzero(np.array(found) == len(SPLITS))[: faults.room()]:
        detail = f"{column!r} is {words[row]!r} at row {first_row + row}, expected one of {', '.join(SPLITS)}"
        faults.add(Fault(pointer(column, first_row + int(row)), "bad_split", detail))
    return np.array(found, np.uint8)
