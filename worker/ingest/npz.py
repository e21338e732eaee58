"""Reads the arrays of an .npz file in parallel, some rows of each at a time."""

import math
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.lib import format as npy

from service.datasets import exported_schema
from service.datasets.declaration import Declaration
from service.datasets.layout import LENGTHS, PRESENT, TIME, PlannedModality
from service.datasets.npz_layout import known, plan
from service.shared import npz
from service.shared.errors import BadInput, Fault, pointer
from service.shared.full_disk import is_disk_full
from service.shared.npz import NPY, ArrayHeader
from worker.ingest import infer
from worker.ingest.block import BLOCK_BYTES, Array, Block, Column, ReadOptions
from worker.ingest.faults import Faults
from worker.ingest.nested_survey import MAX_ROW_BYTES
from worker.ingest.numbers import Numbers

# Integers are converted to int64, whatever their width in the file.
WIDEST_BYTES = 8


class NpzSource:
    """An .npz file. Arrays in Fortran order cannot be read row by row: they are unpacked into the scratch folder."""

    def __init__(self, path: Path, declaration: Declaration, max_bytes: int, scratch: Path, faults: Faults) -> None:
        self._path = path
        self._scratch = scratch
        self._faults = faults
        self._headers = {array.name: array for array in npz.inspect(path, max_bytes)}
        own = _own_schema(path, self._headers.pop(exported_schema.KEY, None))
        declaration, warnings = exported_schema.completed(declaration, own, self._headers.keys())
        declaration, of_roles = known(list(self._headers.values()), declaration)
        self.declaration = declaration
        self._roles = declaration.role_columns()
        layout = plan(list(self._headers.values()), declaration)
        self.layout = replace(layout, warnings=(*warnings, *of_roles, *layout.warnings))
        self._rows = layout.rows or 0
        self.layout = infer.completed(self.layout, declaration, self._numbers(infer.undecided(layout)), {})
        self.category_names: Mapping[str, tuple[int | str, ...]] = {
            modality.name: modality.category_names for modality in self.layout.modalities if modality.category_names
        }
        self._done = 0

    def fraction(self) -> float:
        """The fraction of the rows that was read."""
        return self._done / self._rows

    def blocks(self) -> Iterator[Block]:
        """All rows. Raises BadInput if the data of an array is damaged."""
        for first, rows, arrays in self._arrays([*self._roles.values(), *self._wanted(self.layout.modalities)]):
            yield self._block(first, rows, arrays)
            self._done = first + rows

    def _arrays(self, names: Sequence[str]) -> Iterator[tuple[int, int, dict[str, Array]]]:
        """Batches of rows of these arrays: the number of the first row, the number of rows, and the values."""
        with zipfile.ZipFile(self._path) as archive:
            readers = {name: _Reader(archive, self._headers[name], self._scratch) for name in names}
            row_bytes = sum(reader.row_bytes for reader in readers.values())
            if row_bytes > MAX_ROW_BYTES:
                detail = (
                    f"a row of the arrays has {row_bytes} bytes, expected at most {MAX_ROW_BYTES}: cut it into several"
                )
                raise BadInput([Fault("", "too_large", detail)])
            size = max(1, BLOCK_BYTES // sum(reader.row_values * WIDEST_BYTES for reader in readers.values()))
            for first in range(0, self._rows, size):
                rows = min(size, self._rows - first)
                yield first, rows, {name: reader.take(rows) for name, reader in readers.items()}

    def _numbers(self, modalities: Sequence[PlannedModality]) -> dict[str, Numbers]:
        """Figures about the numbers of these modalities, by column."""
        found = {modality.column: Numbers() for modality in modalities}
        of = self._sequence if self.layout.kind == "sequence" else self._static
        for first, _, arrays in self._arrays(self._wanted(modalities)) if found else ():
            for modality in modalities:
                column = of(modality, first, arrays, Faults())  # blocks() reports the faults
                found[modality.column].see(column.values[column.present])
        return found

    def _wanted(self, modalities: Sequence[PlannedModality]) -> list[str]:
        names: list[str] = []
        for modality in modalities:
            names += [modality.column, *(modality.column + suffix for suffix in (PRESENT, LENGTHS, TIME))]
        return [name for name in names if name in self._headers]

    def _block(self, first: int, rows: int, arrays: dict[str, Array]) -> Block:
        of = self._sequence if self.layout.kind == "sequence" else self._static
        columns = {modality.name: of(modality, first, arrays, self._faults) for modality in self.layout.modalities}
        texts = {role: _texts(arrays[name]) for role, name in self._roles.items()}
        return Block(first, rows, columns, texts.get("ids"), texts.get("labels"), texts.get("split"))

    def _static(self, modality: PlannedModality, first: int, arrays: dict[str, Array], faults: Faults) -> Column:
        values = arrays[modality.column]
        present = arrays.get(modality.column + PRESENT)
        return Column(values, np.ones(len(values), bool) if present is None else present.astype(bool))

    def _sequence(self, modality: PlannedModality, first: int, arrays: dict[str, Array], faults: Faults) -> Column:
        values, times = arrays[modality.column], arrays.get(modality.column + TIME)
        rows, steps = values.shape[:2]
        mask = arrays.get(modality.column + PRESENT, np.ones((rows, steps), bool)).astype(bool)
        mask = np.broadcast_to(mask.reshape(rows, -1), (rows, steps))
        lengths = np.full(rows, steps)
        if modality.column + LENGTHS not in arrays:
            flat = None if times is None else times.reshape(-1).astype(np.float64)
            return Column(values.reshape(-1, *modality.shape), mask.reshape(-1), lengths, flat)
        lengths = self._lengths(modality.column, first, steps, arrays, faults)
        inside = np.arange(steps) < lengths[:, None]
        return Column(
            values[inside], mask[inside], lengths, None if times is None else times[inside].astype(np.float64)
        )

    def _lengths(self, name: str, first: int, steps: int, arrays: dict[str, Array], faults: Faults) -> Array:
        given = arrays[name + LENGTHS]
        lengths = np.clip(given, 0, steps).astype(np.int64)
        for row in np.flatnonzero(lengths != given)[: faults.room()]:
            detail = f"{name}{LENGTHS} is {given[row]} at row {first + row}, expected 0 to {steps}"
            faults.add(Fault(pointer(name + LENGTHS, first + int(row)), "bad_length", detail))
        return lengths


def read(path: Path, declaration: Declaration, options: ReadOptions) -> NpzSource:
    """Open an .npz file. Raises BadInput for one that cannot become a dataset."""
    return NpzSource(path, declaration, options.max_bytes, options.scratch, options.faults)


class _Reader:
    """Reads an array from its beginning, some rows at a time."""

    def __init__(self, archive: zipfile.ZipFile, header: ArrayHeader, scratch: Path) -> None:
        self._header = header
        self._item = header.shape[1:]
        self.row_values = math.prod(self._item)
        self.row_bytes = header.dtype.itemsize * self.row_values
        self._file: IO[bytes] = archive.open(header.name + NPY)
        self._mapped: Array | None = None
        self._next = 0
        version = npy.read_magic(self._file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, fortran, _ = read(self._file)
        if fortran and len(header.shape) > 1:
            self._mapped = self._unpacked(scratch)

    def take(self, rows: int) -> Array:
        """The next rows, (rows, *shape). Raises BadInput if the data is damaged."""
        if self._mapped is not None:
            self._next += rows
            return np.ascontiguousarray(self._mapped[self._next - rows : self._next])
        size = rows * self.row_bytes
        data = self._read(size)
        if len(data) != size:
            raise _damaged(self._header.name, f"{len(data)} bytes where {size} were announced")
        return np.frombuffer(data, self._header.dtype).reshape(rows, *self._item)

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except MemoryError:  # says nothing about the data
            raise
        except Exception as error:  # zlib and zipfile raise many types of errors for damaged data
            raise _damaged(self._header.name, "it cannot be unpacked, or has a wrong checksum") from error

    def _unpacked(self, scratch: Path) -> Array:
        with TemporaryFile(dir=scratch) as file:  # the mapping keeps the deleted file open
            try:
                shutil.copyfileobj(self._file, file, BLOCK_BYTES)
                file.flush()
            except Exception as error:
                if is_disk_full(error):  # says nothing about the data
                    raise
                raise _damaged(self._header.name, "it cannot be unpacked, or has a wrong checksum") from error
            mapped: Array = np.memmap(file, self._header.dtype, "r", shape=self._header.shape, order="F")
        return mapped


def _own_schema(path: Path, header: ArrayHeader | None) -> bytes | None:
    if header is None:
        return None
    if header.shape or header.dtype.kind != "S" or header.dtype.itemsize > exported_schema.MAX_BYTES:
        detail = f"array {header.name!r} is {header.dtype}{header.shape}, expected one text of bytes; remove it"
        raise BadInput([Fault(pointer(header.name), "bad_own_schema", detail)])
    text: bytes = npz.read(path, header.name).item()
    return text


def _texts(array: Array) -> list[str | None]:
    if array.dtype.kind == "S":
        return [text.decode(errors="replace") or None for text in array.tolist()]
    return [str(value) or None for value in array.tolist()]


def _damaged(name: str, why: str) -> BadInput:
    return BadInput([Fault(pointer(name), "damaged_array", f"the data of array {name!r} is damaged: {why}")])
