"""Arrays in memory as a source of blocks, for the datasets of generators."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from service.datasets import layout
from service.datasets.declaration import Declaration
from service.shared.samples import SPLITS
from worker.ingest.block import Array, Block, Column


class ArraysSource:
    """Complete arrays: (N, *shape), or sequences of one length, (N, T, *shape). `splits` are indices of SPLITS."""

    category_names: Mapping[str, tuple[int | str, ...]] = {}

    def __init__(
        self,
        values: Mapping[str, Array],
        kind: Literal["static", "sequence"],
        splits: Sequence[int] | Array | None,
        declaration: Declaration,
    ) -> None:
        self.declaration = declaration
        self._values = values
        self._splits = splits
        self._axes = 2 if kind == "sequence" else 1
        self._rows = len(next(iter(values.values())))
        columns = [
            layout.Column(name, array.shape[self._axes :], "integer" if array.dtype.kind in "iu" else "float")
            for name, array in values.items()
        ]
        self.layout = layout.settle(kind, self._rows, columns, declaration)

    def fraction(self) -> float:
        """1: all rows are in one block."""
        return 1.0

    def blocks(self) -> Iterator[Block]:
        """One block."""
        columns = {}
        for modality in self.layout.modalities:
            array = self._values[modality.name]
            lengths = None if self._axes == 1 else np.full(self._rows, array.shape[1])
            values = array if lengths is None else array.reshape(-1, *modality.shape)
            columns[modality.name] = Column(values, np.ones(len(values), bool), lengths)
        splits = None if self._splits is None else [SPLITS[index] for index in self._splits]
        yield Block(0, self._rows, columns, splits=splits)
