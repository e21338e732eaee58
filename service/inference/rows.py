"""Rows of a query: samples or sequences that each have some of the modalities, one array and one mask per modality."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.inference.modality_values import Array
from service.shared.errors import BadInput, Fault

MAX_BYTES = 512 * 1024**2
"""Limit of the values of one request, of all waiting requests together, and of one batch."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples or sequences that each have some of the modalities.

    values: name -> (B, *shape) or (B, T, *shape). present: name -> (B,) or (B, T) bool. lengths: (B,), None of samples.
    numbers: (B,) int64, the number of each row within its own request; None: 0 to B - 1.
    """

    count: int
    values: dict[str, Array]
    present: dict[str, Array]
    lengths: Array | None
    numbers: Array | None = None

    @property
    def steps(self) -> int:
        """Time steps of the longest sequence; 1 of samples."""
        return 1 if self.lengths is None else int(self.lengths.max(initial=1))

    def is_missing_somewhere(self, name: str) -> bool:
        """Whether a row, or a step before the end of its sequence, lacks the modality."""
        if name not in self.present:
            return True
        places = self.count if self.lengths is None else int(self.lengths.sum())
        return int(np.count_nonzero(self.present[name])) < places

    @property
    def nbytes(self) -> int:
        """Bytes of the values, zeros in place of missing ones included."""
        return sum(array.nbytes for array in self.values.values())


@dataclass(frozen=True, slots=True)
class RowLimits:
    """Limits of one request. steps: time steps of all rows, padded to the longest row, times the draws."""

    rows: int
    steps: int
    draws: int = 1

    def check_steps(self, rows: int, longest: int, pointer: str = "/inputs") -> None:
        """Raise BadInput at `pointer` before anything is allocated: one long row pads all others to its length."""
        steps = rows * longest * self.draws
        if steps > self.steps:
            detail = f"{rows} rows x {longest} steps x {self.draws} draws are {steps}, expected at most {self.steps}"
            raise BadInput([Fault(pointer, "too_large", detail)])


def merged(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts in turn. A modality that a part lacks is absent there; shorter sequences are padded."""
    if len(parts) == 1:
        return parts[0]
    lengths = [part.lengths for part in parts if part.lengths is not None]
    longest = max(int(each.max(initial=1)) for each in lengths) if lengths else None
    count = sum(part.count for part in parts)
    values: dict[str, Array] = {}
    present: dict[str, Array] = {}
    first = 0
    for part in parts:
        own = slice(first, first + part.count)
        for name, array in part.values.items():
            steps = () if longest is None else (longest,)
            if name not in values:
                shape = array.shape[1 + len(steps) :]
                values[name] = np.zeros((count, *steps, *shape), array.dtype)
                present[name] = np.zeros((count, *steps), dtype=bool)
            place = (own,) if longest is None else (own, slice(0, array.shape[1]))
            values[name][place] = array
            present[name][place] = part.present[name]
        first += part.count
    numbers = np.concatenate([np.arange(part.count) if part.numbers is None else part.numbers for part in parts])
    return Rows(count, values, present, np.concatenate(lengths) if lengths else None, numbers)


def to_arrays(rows: Rows) -> dict[str, Array]:
    """All arrays of rows under one name each, for another process. `from_arrays` reads them."""
    arrays = {f"values {name}": array for name, array in rows.values.items()}
    arrays |= {f"present {name}": array for name, array in rows.present.items()}
    return arrays if rows.lengths is None else {**arrays, "lengths": rows.lengths}


def from_arrays(count: int, arrays: dict[str, Array]) -> Rows:
    """The rows whose arrays `to_arrays` has named."""
    values = {name.removeprefix("values "): array for name, array in arrays.items() if name.startswith("values ")}
    return Rows(count, values, {name: arrays[f"present {name}"] for name in values}, arrays.get("lengths"))
