"""A stored dataset as Parquet: one column per modality, lists for sequences, fixed-size lists for vectors, null."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.datasets import exported_schema
from service.datasets.export.chunk_buffer import Sink
from service.datasets.export.row_chunks import column, named, own_schema_of, pieces, steps
from service.datasets.exported_schema import IDS, LABELS, SPLIT
from service.shared.samples import SPLITS, ModalitySchema, Samples


def write(samples: Samples) -> Iterator[bytes]:
    """The file, one row group at a time."""
    sink = Sink()
    writer = None
    metadata = {exported_schema.KEY: own_schema_of(samples)}
    for rows in pieces(samples):
        table = pa.table(_columns(samples, rows)).replace_schema_metadata(metadata)
        writer = writer or pq.ParquetWriter(pa.PythonFile(sink, "w"), table.schema)
        writer.write_table(table)
        yield sink.take()
    if writer is not None:
        writer.close()
    yield sink.take()


def _columns(samples: Samples, rows: range) -> dict[str, Any]:
    columns = {}
    for name, texts in ((IDS, samples.ids), (LABELS, samples.labels)):
        if texts is not None:
            columns[column(samples, name)] = pa.array(texts[rows.start : rows.stop], pa.string())
    if samples.splits is not None:
        splits = [SPLITS[index] for index in samples.splits[rows.start : rows.stop]]
        columns[column(samples, SPLIT)] = pa.array(splits, pa.string())
    place = steps(samples, rows)
    for modality in samples.schema.modalities:
        values = _values(modality, samples.values[modality.name][place], samples.present[modality.name][place])
        if samples.offsets is not None:
            ends = samples.offsets[rows.start : rows.stop + 1] - samples.offsets[rows.start]
            values = pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values)
        columns[modality.name] = values
    return columns


def _values(modality: ModalitySchema, values: Any, present: Any) -> Any:
    absent = ~np.asarray(present, bool)
    values = named(modality, values)
    if modality.category_names is not None and isinstance(modality.category_names[0], str):
        names = pa.array(modality.category_names, pa.string())
        return names.take(pa.array(values, mask=absent))
    if not modality.shape:
        return pa.array(values, mask=absent)
    nested = pa.array(values.reshape(-1))
    for size in reversed(modality.shape[1:]):
        nested = pa.FixedSizeListArray.from_arrays(nested, size)
    return pa.FixedSizeListArray.from_arrays(nested, modality.shape[0], mask=pa.array(absent))
