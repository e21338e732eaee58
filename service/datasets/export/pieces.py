"""Some rows of a stored dataset at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from service.datasets import own_schema
from service.shared.samples import ModalitySchema, Samples

Array = np.ndarray[Any, np.dtype[Any]]

PIECE_BYTES = 4 * 1024**2
# What rides along is named like this, with as many underscores behind it as it takes to differ from the modalities.
IDS, LABELS, SPLIT = "row_id", "row_label", "split"


def pieces(samples: Samples, piece_bytes: int = PIECE_BYTES) -> Iterator[range]:
    """All rows, in ranges of about this many bytes; a row that is larger stands alone."""
    step_bytes = sum(4 * int(np.prod(m.shape)) if m.dtype == "float32" else 8 for m in samples.schema.modalities)
    first = 0
    while first < samples.rows:
        if samples.offsets is None:
            last = first + max(1, piece_bytes // step_bytes)
        else:
            within = int(samples.offsets[first]) + piece_bytes // step_bytes
            last = max(first + 1, int(np.searchsorted(samples.offsets, within, side="right")) - 1)
        yield range(first, min(last, samples.rows))
        first = last


def steps(samples: Samples, rows: range) -> slice:
    """Where the values of these rows stand."""
    if samples.offsets is None:
        return slice(rows.start, rows.stop)
    return slice(int(samples.offsets[rows.start]), int(samples.offsets[rows.stop]))


def own_schema_of(samples: Samples) -> str:
    """The schema that the file carries, with which it makes the same dataset again."""
    return own_schema.written(own_schema.of(samples, *(column(samples, name) for name in (IDS, LABELS, SPLIT))))


def named(modality: ModalitySchema, values: Array) -> Array:
    """Categories by the whole numbers that they are called, where they are; other values as they are."""
    names = modality.category_names
    return np.array(names)[values] if names and isinstance(names[0], int) else values


def column(samples: Samples, wanted: str) -> str:
    """A name for what is no modality that no modality has."""
    while wanted in samples.values:
        wanted += "_"
    return wanted
