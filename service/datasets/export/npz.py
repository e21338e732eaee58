"""A stored dataset as .npz: sequences padded to the longest, with `NAME.lengths` and `NAME.present` beside."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from service.datasets import exported_schema
from service.datasets.export.chunk_buffer import Sink
from service.datasets.export.row_chunks import column, named, own_schema_of, pieces, steps
from service.datasets.exported_schema import IDS, LABELS, SPLIT
from service.datasets.layout import LENGTHS, PRESENT
from service.shared.npz import NPY
from service.shared.samples import SPLITS, Samples, longest

Array = np.ndarray[Any, np.dtype[Any]]


def unpacked_bytes(samples: Samples) -> int:
    """The size of all padded arrays. Ids and labels are padded to the longest text."""
    max_steps = 1 if samples.offsets is None else int(np.diff(samples.offsets).max())
    elements = [values.itemsize * int(np.prod(values.shape[1:])) + 1 for values in samples.values.values()]
    texts = longest(samples.ids) + longest(samples.labels)
    return samples.rows * (max_steps * sum(elements) + texts)


def write(samples: Samples) -> Iterator[bytes]:
    """The file, in pieces of some rows of one array."""
    sink = Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        schema = np.array(own_schema_of(samples).encode())
        with archive.open(zipfile.ZipInfo(f"{exported_schema.KEY}{NPY}"), "w") as member:
            _head(member, schema.dtype, schema.shape)
            member.write(schema.tobytes())
        for name, dtype, shape, rows_of in _arrays(samples):
            with archive.open(zipfile.ZipInfo(f"{name}{NPY}"), "w", force_zip64=True) as member:
                _head(member, dtype, shape)
                for rows in pieces(samples):
                    member.write(np.ascontiguousarray(rows_of(rows), dtype).tobytes())
                    yield sink.take()
    yield sink.take()


Described = tuple[str, "np.dtype[Any]", tuple[int, ...], Callable[[range], Array]]


def _arrays(samples: Samples) -> Iterator[Described]:
    """Every array: its name, dtype, shape, and a function that returns some of its rows."""
    for name, texts in ((IDS, samples.ids), (LABELS, samples.labels)):
        if texts is not None:
            yield _texts(column(samples, name), texts)
    if samples.splits is not None:
        splits, words = samples.splits, np.array([word.encode() for word in SPLITS])
        yield column(samples, SPLIT), words.dtype, splits.shape, lambda rows: words[splits[rows.start : rows.stop]]
    lengths = None if samples.offsets is None else np.diff(samples.offsets)
    for modality in samples.schema.modalities:
        yield _padded(samples, modality.name, samples.values[modality.name], partial(named, modality))
        if not samples.present[modality.name].all():
            yield _padded(samples, modality.name + PRESENT, samples.present[modality.name], np.asarray)
        if lengths is not None:
            yield modality.name + LENGTHS, lengths.dtype, lengths.shape, lambda rows: lengths[rows.start : rows.stop]


def _texts(name: str, texts: Sequence[str | None]) -> Described:
    dtype = np.dtype(f"S{max(1, longest(texts))}")
    return name, dtype, (len(texts),), lambda rows: np.array([(texts[row] or "").encode() for row in rows], dtype)


def _padded(samples: Samples, name: str, values: Array, convert: Callable[[Array], Array]) -> Described:
    item = values.shape[1:]
    if samples.offsets is None:
        return name, values.dtype, values.shape, lambda rows: convert(values[rows.start : rows.stop])
    lengths = np.diff(samples.offsets)
    max_steps = int(lengths.max())

    def rows_of(rows: range) -> Array:
        padded = np.zeros((len(rows), max_steps, *item), values.dtype)
        inside = np.arange(max_steps) < lengths[rows.start : rows.stop, None]
        padded[inside] = convert(values[steps(samples, rows)])
        return padded

    return name, values.dtype, (samples.rows, max_steps, *item), rows_of


def _head(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(member, described)
