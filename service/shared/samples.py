"""The stored form of a dataset: one safetensors file that is written once and memory-mapped by every reader.

Tensors in the file, for every modality NAME:

    values/NAME    static (N, *shape), sequence (S, *shape): the S time steps of all sequences behind one another
    present/NAME   static (N,), sequence (S,) uint8: 1 where the modality was given
    offsets        sequence only, (N + 1,) int64: sequence i owns steps offsets[i] to offsets[i + 1]

The schema stands in the header's metadata as JSON. Absent values are zeros, and only `present` says so.
"""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import save_file

Array = np.ndarray[Any, np.dtype[Any]]

FORMAT = "sensorium-samples/1"
METADATA = "sensorium"
DTYPES = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}


class CorruptSamples(ValueError):
    """A file that is not a stored dataset, or no longer the one that was written."""


class ModalitySchema(BaseModel):
    """One modality of a dataset: what a single value of it looks like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...] = Field(description="Shape of one sample's value, or of one time step's. () is a scalar.")
    dtype: Literal["float32", "int64"]
    categories: int | None = Field(default=None, description="Number of categories; values are 0 to categories - 1.")
    likelihood: str | None = Field(default=None, description="The density that its type and statistics suggest.")


class Schema(BaseModel):
    """The modalities of a dataset and whether its samples are single values or sequences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["static", "sequence"]
    modalities: tuple[ModalitySchema, ...]

    def names(self) -> list[str]:
        """The modalities' names, in the schema's order."""
        return [modality.name for modality in self.modalities]


@dataclass(frozen=True)
class Samples:
    """The arrays of a dataset. Read from disk they are read-only views of the mapped file.

    values: name -> (N, *shape) or (S, *shape). present: name -> (N,) or (S,) bool. offsets: (N + 1,) or None.
    """

    schema: Schema
    rows: int
    values: Mapping[str, Array]
    present: Mapping[str, Array]
    offsets: Array | None = None


def of_arrays(
    values: Mapping[str, Array],
    kind: Literal["static", "sequence"] = "static",
    present: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
) -> Samples:
    """Arrays in memory as a dataset: (N, *shape), or padded sequences (N, T, *shape) of `lengths` (N,) steps.

    Integers of shape () are categories, everything else is numbers. present: name -> (N,) or (N, T) bool, all true for
    modalities that are not named.
    """
    axes = 2 if kind == "sequence" else 1
    first = next(iter(values.values()))
    rows = len(first)
    steps = np.arange(first.shape[1]) if kind == "sequence" else np.arange(0)
    inside = steps < (np.full(rows, len(steps)) if lengths is None else lengths)[:, None]

    def flat(array: Array) -> Array:
        return array if kind == "static" else array[inside]

    modalities = []
    for name in sorted(values):
        array = values[name]
        category = array.dtype.kind in "iu" and array.ndim == axes
        modalities.append(
            ModalitySchema(
                name=name,
                shape=array.shape[axes:],
                dtype="int64" if category else "float32",
                categories=max(2, int(array.max()) + 1) if category else None,
            )
        )
    masks = {name: np.ones(array.shape[:axes], bool) for name, array in values.items()} | dict(present or {})
    return Samples(
        schema=Schema(kind=kind, modalities=tuple(modalities)),
        rows=rows,
        values={m.name: flat(values[m.name]).astype(m.dtype) for m in modalities},
        present={m.name: flat(masks[m.name]) for m in modalities},
        offsets=None if kind == "static" else np.concatenate([[0], np.cumsum(inside.sum(axis=1))]),
    )


def write(path: Path, samples: Samples) -> None:
    """Write `samples` as one file. The caller makes it durable and gives it its final name."""
    tensors: dict[str, Array] = {}
    for modality in samples.schema.modalities:
        present = samples.present[modality.name].astype(np.uint8)
        values = np.ascontiguousarray(samples.values[modality.name], dtype=modality.dtype)
        absent = present == 0
        if absent.any():
            values = values.copy()
            values[absent] = 0
        tensors[f"values/{modality.name}"] = values
        tensors[f"present/{modality.name}"] = present
    if samples.offsets is not None:
        tensors["offsets"] = np.ascontiguousarray(samples.offsets, dtype=np.int64)
    # One entry: safetensors writes several in an order that differs from call to call, and with it the file's digest.
    metadata = {"format": FORMAT, "rows": samples.rows, "schema": samples.schema.model_dump(mode="json")}
    save_file(tensors, path, metadata={METADATA: json.dumps(metadata)})


def open(path: Path) -> Samples:
    """Map a stored dataset into memory; nothing is copied.

    Raises CorruptSamples when the file is not one that `write` made.
    """
    header, body = _map(path)
    metadata = _metadata(path, header.pop("__metadata__", None))
    schema = Schema.model_validate(metadata["schema"])
    arrays = {name: _view(path, name, entry, body) for name, entry in header.items()}
    return Samples(
        schema=schema,
        rows=metadata["rows"],
        values={name: arrays[f"values/{name}"] for name in schema.names()},
        present={name: arrays[f"present/{name}"].view(np.bool_) for name in schema.names()},
        offsets=arrays.get("offsets"),
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
