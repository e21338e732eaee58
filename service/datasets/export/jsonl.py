"""A stored dataset as JSON Lines: an object a row, absent modalities and steps null; the first has the schema too."""

from collections.abc import Iterator
from typing import Any

import orjson

from service.datasets import exported_schema
from service.datasets.export.row_chunks import column, named, own_schema_of, pieces, steps
from service.datasets.exported_schema import IDS, LABELS, SPLIT
from service.shared.samples import SPLITS, ModalitySchema, Samples

# NumPy's numbers are written with as many digits as their own type needs.
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


def write(samples: Samples) -> Iterator[bytes]:
    """The file, some rows at a time."""
    names = {kind: column(samples, kind) for kind in (IDS, LABELS, SPLIT)}
    for rows in pieces(samples):
        lines = []
        for row in rows:
            record: dict[str, Any] = {}
            for name, texts in ((IDS, samples.ids), (LABELS, samples.labels)):
                if texts is not None:
                    record[names[name]] = texts[row]
            if samples.splits is not None:
                record[names[SPLIT]] = SPLITS[samples.splits[row]]
            if row == 0:
                record[exported_schema.KEY] = orjson.Fragment(own_schema_of(samples))
            lines.append(orjson.dumps(record | values_of(samples, row), option=_OPTIONS))
        yield b"".join(lines)


def values_of(samples: Samples, row: int, most_steps: int | None = None) -> dict[str, Any]:
    """Every modality's value of a row, ready for JSON: null where absent; of sequences the first `most_steps`."""
    place = steps(samples, range(row, row + 1))
    if most_steps is not None:
        place = slice(place.start, min(place.stop, place.start + most_steps))
    found: dict[str, Any] = {}
    for modality in samples.schema.modalities:
        values, present = samples.values[modality.name][place], samples.present[modality.name][place]
        if samples.offsets is None:
            found[modality.name] = _named(modality, values)[0] if present[0] else None
        elif present.all():
            found[modality.name] = _named(modality, values)
        else:
            pairs = zip(_named(modality, values), present.tolist(), strict=True)
            found[modality.name] = [value if given else None for value, given in pairs]
    return found


def _named(modality: ModalitySchema, values: Any) -> Any:
    if modality.category_names is None or isinstance(modality.category_names[0], int):
        return named(modality, values)
    return [modality.category_names[index] for index in values]
