"""Splits a stored dataset into ranges of rows, and names its columns."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from service.datasets import exported_schema
from service.datasets.exported_schema import IDS, LABELS, SPLIT
from service.shared.samples import ModalitySchema, Samples, longest

Array = np.ndarray[Any, np.dtype[Any]]

PIECE_BYTES = 4 * 1024**2


def pieces(samples: Samples, piece_bytes: int = PIECE_BYTES) -> Iterator[range]:
    """All rows, in ranges of about this many bytes. A larger row is a range of its own."""
    step_bytes = sum(_value_bytes(modality) for modality in samples.schema.modalities)
    # in an .npz file all texts are as wide as the longest
    max_rows = max(1, piece_bytes // max(1, longest(samples.ids) + longest(samples.labels)))
    first = 0
    while first < samples.rows:
        if samples.offsets is None:
            last = first + max(1, piece_bytes // step_bytes)
        else:
            within = int(samples.offsets[first]) + piece_bytes // step_bytes
            last = max(first + 1, int(np.searchsorted(samples.offsets, within, side="right")) - 1)
        last = min(last, first + max_rows, samples.rows)
        yield range(first, last)
        first = last


def _value_bytes(modality: ModalitySchema) -> int:
    """The size of one value when written; a category may have a long name."""
    if modality.dtype == "float32":
        return 4 * int(np.prod(modality.shape))
    return max([8, *(len(str(name)) for name in modality.category_names or ())])


def steps(samples: Samples, rows: range) -> slice:
    """The range of values of these rows."""
    if samples.offsets is None:
        return slice(rows.start, rows.stop)
    return slice(int(samples.offsets[rows.start]), int(samples.offsets[rows.stop]))


def own_schema_of(samples: Samples) -> str:
    """The schema to write into the file."""
    return exported_schema.to_json(
        exported_schema.of(samples, *(column(samples, name) for name in (IDS, LABELS, SPLIT)))
    )


def named(modality: ModalitySchema, values: Array) -> Array:
    """Replace categories by their names if these are whole numbers."""
    names = modality.category_names
    return np.array(names)[values] if names and isinstance(names[0], int) else values


def column(samples: Samples, wanted: str) -> str:
    """A column name that no modality has: the wanted one, with underscores appended if necessary."""
    while wanted in samples.values:
        wanted += "_"
    return wanted
