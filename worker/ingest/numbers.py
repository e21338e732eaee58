"""Figures about the numbers of a column that tell categories, numbers and row numbers apart."""

import numpy as np

from service.datasets.declaration import MAX_CATEGORIES
from worker.ingest.block import Array


class Numbers:
    """Accumulates figures about the values of a column."""

    def __init__(self) -> None:
        self.count = 0
        self.distinct: Array | None = np.zeros(0, np.int64)
        """The different values, sorted; None if there are more than MAX_CATEGORIES."""
        self.whole = True
        """Whether all values are whole numbers."""
        self._low: int | float = 0
        self._high: int | float = 0

    @property
    def all_differ(self) -> bool:
        """Whether all values are known to differ."""
        return self.distinct is not None and len(self.distinct) == self.count

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return float(max(abs(self._low), abs(self._high)))

    @property
    def are_consecutive(self) -> bool:
        """Whether every number from the lowest to the highest occurs exactly once."""
        return self.all_differ and self._high - self._low + 1 == self.count

    def see(self, values: Array) -> None:
        """Add some values: (N,), the present ones."""
        if values.dtype.kind == "f":
            values = values[~np.isnan(values)]
        if not len(values):
            return
        low, high = values.min().item(), values.max().item()
        self._low, self._high = (min(self._low, low), max(self._high, high)) if self.count else (low, high)
        self.count += len(values)
        if values.dtype.kind == "f":
            self.whole = self.whole and bool((np.isfinite(values) & (values == np.floor(values))).all())
        if self.distinct is None or not self.whole:
            return
        found = np.unique(values)
        found = found if not len(self.distinct) else np.union1d(self.distinct, found)
        self.distinct = found if len(found) <= MAX_CATEGORIES else None
