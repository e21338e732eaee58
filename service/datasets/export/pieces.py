"""Some rows of a stored dataset at a time."""

from collections.abc import Iterator

import numpy as np

from service.shared.samples import Samples

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


def column(samples: Samples, wanted: str) -> str:
    """A name for what is no modality that no modality has."""
    while wanted in samples.values:
        wanted += "_"
    return wanted
