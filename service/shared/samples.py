"""The stored form of a dataset: one safetensors file that is written once and memory-mapped by every reader.

Tensors in the file, for every modality NAME:

    values/NAME    static (N, *shape), sequence (S, *shape): the S time steps of all sequences, concatenated
    present/NAME   static (N,), sequence (S,) uint8: 1 where the modality was given
    offsets        sequence only, (N + 1,) int64: sequence i owns steps offsets[i] to offsets[i + 1]

and, of datasets that have them:

    split          (N,) uint8: 0 training, 1 validation, 2 test
    ids/text, ids/ends, labels/text, labels/ends
                   the rows' names and labels in UTF-8, concatenated, and the end of each, (N,) int64

The header's metadata has the schema as JSON. Absent values are zeros; `present` tells them from given ones.
"""

import json
import mmap
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self, overload

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

Array = np.ndarray[Any, np.dtype[Any]]

FORMAT = "sensorium-samples/1"
METADATA = "sensorium"
DTYPES = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}
_CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
SPLITS = ("training", "validation", "test")
COPIED_BYTES = 64 * 1024**2


class CorruptSamples(ValueError):
    """A file that is not a stored dataset, or was changed after it was written."""


class ModalitySchema(BaseModel):
    """One modality of a dataset: shape, type and categories of one value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name of the modality.")
    shape: tuple[int, ...] = Field(description="Shape of one sample's value, or of one time step's. () is a scalar.")
    dtype: Literal["float32", "int64"] = Field(description="float32 for numbers, int64 for categories.")
    categories: int | None = Field(default=None, description="Number of categories; values are 0 to categories - 1.")
    category_names: tuple[StrictInt, ...] | tuple[StrictStr, ...] | None = Field(
        default=None,
        description="What the categories are called, by their number: texts, or the whole numbers that occur.",
    )
    units: str | None = Field(default=None, description="Of the values, for people.")
    likelihood: str | None = Field(default=None, description="The density that was declared, or that the data suggest.")


class Schema(BaseModel):
    """The modalities of a dataset and whether its samples are single values or sequences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["static", "sequence"] = Field(
        description="static: samples without a time axis. sequence: values have a time axis."
    )
    modalities: tuple[ModalitySchema, ...] = Field(description="All modalities, in the order of their names.")
    step_seconds: float | None = Field(
        default=None, description="Length of a time step, in seconds; null if it is unknown."
    )

    def names(self) -> list[str]:
        """The modalities' names, in the schema's order."""
        return [modality.name for modality in self.modalities]


@dataclass(frozen=True)
class Samples:
    """The arrays of a dataset. Read from disk they are read-only views of the mapped file.

    values: name -> (N, *shape) or (S, *shape). present: name -> (N,) or (S,) bool. offsets: (N + 1,) or None.
    splits: (N,) uint8, an index of SPLITS, or None. ids, labels: N texts, or None; a row without one has None.
    """

    schema: Schema
    rows: int
    values: Mapping[str, Array]
    present: Mapping[str, Array]
    offsets: Array | None = None
    splits: Array | None = None
    ids: Sequence[str | None] | None = None
    labels: Sequence[str | None] | None = None


class Texts(Sequence[str | None]):
    """Texts of rows, decoded one by one from the mapped file; an empty one is None."""

    def __init__(self, text: Array, ends: Array) -> None:
        self._text = text
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    def longest(self) -> int:
        """The number of bytes of the longest text, without decoding any."""
        return int(np.diff(self._ends, prepend=0).max(initial=0))

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str | None]: ...
    def __getitem__(self, row: int | slice) -> str | Sequence[str | None] | None:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        place = range(len(self))[row]
        start = int(self._ends[place - 1]) if place else 0
        return self._text[start : int(self._ends[place])].tobytes().decode() or None


def longest(texts: Sequence[str | None] | None) -> int:
    """The number of bytes of the longest text; 0 for none."""
    if texts is None:
        return 0
    if isinstance(texts, Texts):
        return texts.longest()
    return max((len((text or "").encode()) for text in texts), default=0)


class Writer:
    """Writes a stored dataset piece by piece, in bounded memory: every tensor grows in a file of its own beside
    `path`, and `finish` joins them. Leaving its `with` block without `finish` removes all of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._rows: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name, part in self._parts.items():
            part.close()
            self._part(name).unlink(missing_ok=True)
        if not self._finished:
            self._path.unlink(missing_ok=True)

    def add(self, piece: Samples) -> None:
        """Append the rows of a piece; all pieces have the same modalities, of the same shapes and dtypes."""
        for modality in piece.schema.modalities:
            present = piece.present[modality.name]
            values = np.ascontiguousarray(piece.values[modality.name], dtype=modality.dtype)
            absent = ~present.astype(bool, copy=False)
            if absent.any():
                values = values.copy()
                values[absent] = 0
            self._append(f"values/{modality.name}", values)
            self._append(f"present/{modality.name}", present.astype(np.uint8))
        if piece.offsets is not None:
            if "offsets" not in self._parts:
                self._append("offsets", np.zeros(1, np.int64))
            self._append("offsets", self._after("steps", np.asarray(piece.offsets[1:], np.int64)))
        if piece.splits is not None:
            self._append("split", piece.splits.astype(np.uint8))
        for name, texts in (("ids", piece.ids), ("labels", piece.labels)):
            if texts is not None:
                encoded = [(text or "").encode() for text in texts]
                self._append(f"{name}/text", np.frombuffer(b"".join(encoded), np.uint8))
                ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
                self._append(f"{name}/ends", self._after(name, ends))

    def finish(self, schema: Schema, rows: int) -> None:
        """Write the file. The caller makes it durable and gives it its final name."""
        # The widest types first, so that every tensor is aligned; then by name, so that equal data gives equal files.
        names = sorted(self._parts, key=lambda name: (-np.dtype(DTYPES[self._kinds[name][0]]).itemsize, name))
        # One entry: the order of several would not be fixed.
        described = {"format": FORMAT, "rows": rows, "schema": schema.model_dump(mode="json")}
        header: dict[str, Any] = {"__metadata__": {METADATA: json.dumps(described)}}
        start = 0
        for name in names:
            dtype, shape = self._kinds[name]
            size = self._parts[name].tell()
            header[name] = {"dtype": dtype, "shape": [self._rows[name], *shape], "data_offsets": [start, start + size]}
            start += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with self._path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                self._parts[name].close()
                with self._part(name).open("rb") as part:
                    _append(part, file)
                self._part(name).unlink()
        self._finished = True

    def _append(self, name: str, array: Array) -> None:
        if name not in self._parts:
            self._parts[name] = self._part(name).open("wb")
            self._kinds[name] = (_CODES[array.dtype], array.shape[1:])
            self._rows[name] = 0
        if self._kinds[name] != (_CODES[array.dtype], array.shape[1:]):
            raise ValueError(f"{name} is {array.dtype} {array.shape[1:]}, expected {self._kinds[name]} as before")
        self._parts[name].write(np.ascontiguousarray(array).data)
        self._rows[name] += len(array)

    def _after(self, name: str, ends: Array) -> Array:
        """Ends within a piece as ends within the whole tensor."""
        before = self._ends.get(name, 0)
        self._ends[name] = before + (int(ends[-1]) if len(ends) else 0)
        return ends + before

    def _part(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{name.replace('/', '.')}")


def _append(part: BinaryIO, file: BinaryIO) -> None:
    """Copy within the kernel, which some file systems do without copying."""
    file.flush()
    try:
        while os.copy_file_range(part.fileno(), file.fileno(), COPIED_BYTES):
            pass
    except OSError:  # not on this file system
        shutil.copyfileobj(part, file, COPIED_BYTES)


def write(path: Path, samples: Samples) -> None:
    """Write `samples` as one file. The caller makes it durable and gives it its final name."""
    with Writer(path) as writer:
        writer.add(samples)
        writer.finish(samples.schema, samples.rows)


def open(path: Path) -> Samples:
    """Map a stored dataset into memory without copying it.

    Raises CorruptSamples when the file is not one that `write` made.
    """
    header, body = _map(path)
    metadata = _metadata(path, header.pop("__metadata__", None))
    schema = Schema.model_validate(metadata["schema"])
    arrays = {name: _view(path, name, entry, body) for name, entry in header.items()}

    def texts(name: str) -> Texts | None:
        return Texts(arrays[f"{name}/text"], arrays[f"{name}/ends"]) if f"{name}/ends" in arrays else None

    return Samples(
        schema=schema,
        rows=metadata["rows"],
        values={name: arrays[f"values/{name}"] for name in schema.names()},
        present={name: arrays[f"present/{name}"].view(np.bool_) for name in schema.names()},
        offsets=arrays.get("offsets"),
        splits=arrays.get("split"),
        ids=texts("ids"),
        labels=texts("labels"),
    )


def _metadata(path: Path, entries: Any) -> dict[str, Any]:
    text = entries.get(METADATA, "null") if isinstance(entries, dict) else "null"
    metadata = json.loads(text)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CorruptSamples(f"{path.name} is not a stored dataset of format {FORMAT}")
    return metadata


def _map(path: Path) -> tuple[dict[str, Any], memoryview]:
    """The header and the mapped tensor bytes of a safetensors file.

    The library's own reader copies tensors when it makes NumPy arrays; its format (8 bytes of header length, a JSON
    header, then the bytes) lets us map them instead.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise CorruptSamples(f"{path.name} has {size} bytes, fewer than its header announces")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise CorruptSamples(f"{path.name} has a header that is not JSON") from error
        if not isinstance(header, dict):
            raise CorruptSamples(f"{path.name} has a {type(header).__name__} as its header, expected an object")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return header, memoryview(mapped)[8 + length :]


def _view(path: Path, name: str, entry: dict[str, Any], body: memoryview) -> Array:
    dtype = np.dtype(DTYPES[entry["dtype"]])
    start, end = entry["data_offsets"]
    if end > len(body) or end - start != dtype.itemsize * int(np.prod(entry["shape"], dtype=np.int64)):
        raise CorruptSamples(f"{path.name} is cut short: tensor {name} ends at byte {end} of {len(body)}")
    return np.frombuffer(body[start:end], dtype=dtype).reshape(entry["shape"])
