"""Tables in groups of columns: the diabetes and Linnerud data of scikit-learn, and the six views of written digits.

One group at a time is missing whole, and is predicted from all others.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_linnerud

from benchmarks.real import views

Rows = NDArray[np.int64]
FOLDS = 5
VALIDATION_PART = 0.2


class Split(NamedTuple):
    """The rows to train on, and those to judge by."""

    training: Rows
    test: Rows


class Table(NamedTuple):
    """values: the columns of each group, (N, columns)."""

    name: str
    values: dict[str, NDArray[np.float32]]
    splits: Sequence[Split]

    def for_choices(self) -> "Table":
        """The same with a fifth of the training rows in place of the test rows, which are not looked at."""
        return self._replace(splits=[_inner(split, number) for number, split in enumerate(self.splits)])


def load() -> list[Table]:
    """All three."""
    diabetes, linnerud = load_diabetes(scaled=False), load_linnerud()
    columns = diabetes.data
    return [
        _table(
            "diabetes",
            {
                "person": columns[:, :2],  # age, sex
                "body": np.c_[columns[:, 2:4], diabetes.target],  # body mass index, blood pressure, progression
                "serum": columns[:, 4:],
            },
        ),
        _table("Linnerud", {"exercise": linnerud.data, "body": linnerud.target}),
        Table("six views", views.load(), [Split(*views.split(2000))]),
    ]


def error(predicted: NDArray[Any], truth: NDArray[Any], known: NDArray[Any]) -> float:
    """The root mean squared error in standard deviations of the training rows' columns."""
    deviation = known.std(axis=0)
    return float(np.sqrt(np.square((predicted - truth) / np.where(deviation > 0, deviation, 1)).mean()))


def _table(name: str, values: dict[str, NDArray[Any]]) -> Table:
    rows = len(next(iter(values.values())))
    folds = np.array_split(np.random.default_rng(0).permutation(rows), FOLDS)
    return Table(
        name,
        {group: value.astype(np.float32) for group, value in values.items()},
        [Split(np.setdiff1d(np.arange(rows), fold), fold) for fold in folds],
    )


def _inner(split: Split, number: int) -> Split:
    order = np.random.default_rng(100 + number).permutation(split.training)
    count = round(VALIDATION_PART * len(order))
    return Split(order[count:], order[:count])
