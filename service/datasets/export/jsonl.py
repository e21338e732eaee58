"""A stored dataset as JSON Lines: one object per row, null for absent modalities and steps, the schema in the first."""

from collections.abc import Iterator
from typing import Any

import orjson

from service.datasets import exported_schema
from service.datasets.export.row_chunks import column, named, own_schema_of, pieces, steps
from service.datasets.exported_schema import IDS, LABELS, SPLIT
from service.shared.samples import SPLITS, ModalitySchema, Samples

# NumPy numbers are written with the digits that their own type needs.
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


def write(samples: Samples) -> Iterator[bytes]:
    """The file, in pieces of some rows."""
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


def values_of(samples: Samples, row: int, max_steps: int | None = None) -> dict[str, Any]:
    """The value of every modality in a row, for JSON: None if absent. max_steps: of a sequence."""
    place = steps(samples, range(row, row + 1))
    if max_steps is not None:
        place = slice(place.start, min(place.stop, place.start + max_steps))
    row_values: dict[str, Any] = {}
    for modality in samples.schema.modalities:
        values, present = samples.values[modality.name][place], samples.present[modality.name][place]
        if samples.offsets is None:
            row_values[modality.name] = _named(modality, values)[0] if present[0] else None
        elif present.all():
            row_values[modality.name] = _named(modality, values)
        else:
            pairs = zip(_named(modality, values), present.tolist(), strict=True)
            row_values[modality.name] = [value if is_present else None for value, is_present in pairs]
    return row_values


def _named(modality: ModalitySchema, values: Any) -> Any:
    if modality.category_names is None or isinstance(modality.category_names[0], int):
        return named(modality, values)
    return [modality.category_names[index] for index in values]
