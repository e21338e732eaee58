"""Some rows of a stored dataset, for people."""

from typing import Any

import numpy as np

from service.datasets.export.jsonl import values_of
from service.shared.errors import BadInput, Fault
from service.shared.samples import SPLITS, Samples, longest

MOST_NUMBERS = 1_000_000
MAX_CHARACTERS = 16 * 1024**2


def preview(samples: Samples, first: int, rows: int, most_steps: int) -> dict[str, Any]:
    """The body of an answer, whose arrays are NumPy's. Raises BadInput for more numbers than anybody reads."""
    last = min(samples.rows, first + rows)
    shown = sum(int(np.prod(modality.shape)) for modality in samples.schema.modalities)
    if samples.offsets is not None:
        shown *= most_steps
    if shown * (last - first) > MOST_NUMBERS:
        detail = f"that may be {shown * (last - first)} numbers, expected at most {MOST_NUMBERS}: ask for fewer rows"
        raise BadInput([Fault("?rows", "too_many_numbers", detail)])
    names = sum(max([0, *(len(str(name)) for name in m.category_names or ())]) for m in samples.schema.modalities)
    if samples.offsets is not None:
        names *= most_steps
    characters = (names + longest(samples.ids) + longest(samples.labels)) * (last - first)
    if characters > MAX_CHARACTERS:
        detail = f"that may be {characters} characters of text, expected at most {MAX_CHARACTERS}: ask for fewer rows"
        raise BadInput([Fault("?rows", "too_much_text", detail)])
    found = [
        {
            "row": row,
            "id": samples.ids[row] if samples.ids is not None else None,
            "label": samples.labels[row] if samples.labels is not None else None,
            "split": SPLITS[samples.splits[row]] if samples.splits is not None else None,
            "values": values_of(samples, row, most_steps),
        }
        for row in range(first, last)
    ]
    return {"rows": found, "total_rows": samples.rows}
