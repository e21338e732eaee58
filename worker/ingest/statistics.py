"""Statistics of a dataset, accumulated over its blocks: presence, values, lengths, and joint presence."""

from typing import Any

import numpy as np

from service.shared.samples import SPLITS, ModalitySchema, Samples
from worker.ingest.block import Array

# Joint presence grows with the square of the number of modalities, to a million figures without this limit.
MAX_TOGETHER = 100


class Statistics:
    """Statistics over the present values of the pieces of a dataset.

    Lengths are in steps. Presence counts samples or time steps; `rows` and `together` count rows. `together` is left
    out for more than MAX_TOGETHER modalities.
    """

    def __init__(self) -> None:
        self._modalities: dict[str, _Figures] = {}
        self._having: dict[str, int] = {}
        self._together: Array = np.zeros((1, 1), np.int64)
        self._lengths = _Moments()
        self._rows = 0
        self._splits = np.zeros(len(SPLITS), np.int64)

    def add(self, piece: Samples) -> None:
        """Add a piece."""
        self._rows += piece.rows
        if piece.splits is not None:
            self._splits += np.bincount(piece.splits, minlength=len(SPLITS))
        having = {}
        for modality in piece.schema.modalities:
            present = piece.present[modality.name]
            having[modality.name] = _rows_with(present, piece.offsets)
            self._modalities.setdefault(modality.name, _Figures()).add(piece.values[modality.name], present, modality)
            self._having[modality.name] = self._having.get(modality.name, 0) + int(having[modality.name].sum())
        if len(having) <= MAX_TOGETHER:
            masks = np.array(list(having.values()), np.float32)  # exact: a piece has fewer than 2**24 rows
            self._together = (masks @ masks.T).astype(np.int64) + self._together
        if piece.offsets is not None:
            self._lengths.add(np.diff(piece.offsets))

    def categories(self, name: str) -> int:
        """The largest category of a modality so far, plus one."""
        return self._modalities[name].categories

    def is_present(self, name: str) -> bool:
        """Whether a modality has had a value so far."""
        return self._modalities[name].present > 0

    def describe(self, categories: dict[str, int], nan: dict[str, int]) -> dict[str, Any]:
        """All statistics. categories, nan: by modality, the number of categories, and of values with a NaN."""
        modalities = {}
        for name, figures in self._modalities.items():
            described = figures.describe(categories.get(name))
            modalities[name] = {"rows": self._having[name], **described, "nan": nan.get(name, 0)}
        found: dict[str, Any] = {"rows": self._rows, "modalities": modalities}
        if len(modalities) <= MAX_TOGETHER:
            counts = self._together.tolist()
            found["together"] = {
                name: dict(zip(modalities, row, strict=True)) for name, row in zip(modalities, counts, strict=True)
            }
        if self._splits.any():
            found["splits"] = dict(zip(SPLITS, self._splits.tolist(), strict=True))
        if self._lengths.count:
            whole = self._lengths.describe()
            lengths = {"minimum": int(whole["minimum"]), "mean": whole["mean"], "maximum": int(whole["maximum"])}
            found["lengths"] = lengths
        return found


class _Figures:
    def __init__(self) -> None:
        self.present = 0
        self._absent = 0
        self._counts = np.zeros(0, np.int64)
        self._moments = _Moments()

    @property
    def categories(self) -> int:
        return len(self._counts)

    def add(self, values: Array, present: Array, modality: ModalitySchema) -> None:
        count = int(present.sum())
        self.present += count
        self._absent += len(present) - count
        given = values if count == len(present) else values[present]
        if modality.dtype == "int64":
            counts = np.bincount(given, minlength=len(self._counts))
            counts[: len(self._counts)] += self._counts
            self._counts = counts
        else:
            self._moments.add(given)

    def describe(self, categories: int | None) -> dict[str, Any]:
        figures: dict[str, Any] = {"present": self.present, "absent": self._absent}
        if categories is not None:
            missing = max(0, categories - len(self._counts))
            figures["counts"] = [*self._counts.tolist(), *[0] * missing]
        elif self._moments.count:
            figures |= self._moments.describe()
        return figures


class _Moments:
    """Mean, standard deviation and range of numbers, merged piece by piece (Chan et al., 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._minimum = np.inf
        self._maximum = -np.inf

    def add(self, values: Array) -> None:
        if not values.size:
            return
        mean = float(values.mean(dtype=np.float64))
        squares = float(np.square(values - mean, dtype=np.float64).sum())
        count = self.count + values.size
        apart = mean - self._mean
        self._squares += squares + apart * apart * (self.count * values.size / count)
        self._mean += apart * values.size / count
        self.count = count
        self._minimum = min(self._minimum, float(values.min()))
        self._maximum = max(self._maximum, float(values.max()))

    def describe(self) -> dict[str, float]:
        return {
            "mean": self._mean,
            "standard_deviation": float(np.sqrt(self._squares / self.count)),
            "minimum": self._minimum,
            "maximum": self._maximum,
        }


def _rows_with(present: Array, offsets: Array | None) -> Array:
    """Which rows have a modality, sequences at any step: (N,) bool."""
    if offsets is None:
        return present.astype(bool, copy=False)
    before = np.concatenate([[0], np.cumsum(present)])
    return np.asarray(np.diff(before[offsets]) > 0)
