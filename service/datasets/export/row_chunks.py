"""Some rows of a stored dataset at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from service.datasets import exported_schema
from service.datasets.exported_schema import IDS, LABELS, SPLIT
from service.shared.samples import ModalitySchema, Samples, longest

Array = np.ndarray[Any, np.dtype[Any]]

PIECE_BYTES = 4 * 1024**2


def pieces(samples: Samples, piece_bytes: int = PIECE_BYTES) -> Iterator[range]:
    """All rows, in ranges of about this many bytes; a row that is larger stands alone."""
    step_bytes = sum(_value_bytes(modality) for modality in samples.schema.modalities)
    # texts of an .npz file are all as wide as the longest
    most_rows = max(1, piece_bytes // max(1, longest(samples.ids) + longest(samples.labels)))
    first = 0
    while first < samples.rows:
        if samples.offsets is None:
            last = first + max(1, piece_bytes // step_bytes)
        else:
            within = int(samples.offsets[first]) + piece_bytes // step_bytes
            last = max(first + 1, int(np.searchsorted(samples.offsets, within, side="right")) - 1)
        last = min(last, first + most_rows, samples.rows)
        yield range(first, last)
        first = last


def _value_bytes(modality: ModalitySchema) -> int:
    """Of a value as it is written: a category may be a long name."""
    if modality.dtype == "float32":
        return 4 * int(np.prod(modality.shape))
    return max([8, *(len(str(name)) for name in modality.category_names or ())])


def steps(samples: Samples, rows: range) -> slice:
    """Where the values of these rows stand."""
    if samples.offsets is None:
        return slice(rows.start, rows.stop)
    return slice(int(samples.offsets[rows.start]), int(samples.offsets[rows.stop]))


def own_schema_of(samples: Samples) -> str:
    """The schema that the file carries, with which it makes the same dataset again."""
    return exported_schema.written(
        exported_schema.of(samples, *(column(samples, name) for name in (IDS, LABELS, SPLIT)))
    )


def named(modality: ModalitySchema, values: Array) -> Array:
    """Categories by the whole numbers that they are called, where they are; other values as they are."""
    names = modality.category_names
    return np.array(names)[values] if names and isinstance(names[0], int) else values


def column(samples: Samples, wanted: str) -> str:
    """A name for what is no modality that no modality has."""
    while wanted in samples.values:
        wanted += "_"
    return wanted
