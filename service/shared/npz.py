"""Reads .npz files from strangers: every header is checked before a byte is inflated, and nothing is unpickled."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from service.shared.errors import BadInput, Fault, pointer

Array = np.ndarray[Any, np.dtype[Any]]

MOST_ARRAYS = 1000
MOST_DIMENSIONS = 8
NUMERIC_KINDS = "biuf"
TEXT_KINDS = "US"
NPY = ".npy"


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of one array announces."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def inspect(path: Path, most_bytes: int) -> list[ArrayHeader]:
    """The arrays of an .npz file, from their headers alone.

    Raises BadInput with every fault: no zip archive, a member that is no array, pickled objects, text, sizes that do
    not fit the shape, or more than `most_bytes` when unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if not members:
                raise _refused("", "empty_file", "the .npz file holds no array")
            if len(members) > MOST_ARRAYS:
                raise _refused("", "too_many_arrays", f"{len(members)} arrays, expected at most {MOST_ARRAYS}")
            unpacked = sum(member.file_size for member in members)
            if unpacked > most_bytes:
                raise _refused("", "too_large", f"{unpacked} bytes when unpacked, expected at most {most_bytes}")
            headers: list[ArrayHeader] = []
            faults: list[Fault] = []
            for member in members:
                found = _header(archive, member)
                if isinstance(found, Fault):
                    faults.append(found)
                else:
                    headers.append(found)
    except BadInput:
        raise
    except Exception as error:  # zipfile meets bytes of a stranger: what it raises is not documented
        raise _refused("", "not_npz", "the file is no whole .npz archive, expected what numpy.savez writes") from error
    names = [header.name for header in headers]
    faults += [
        Fault(pointer(n), "duplicate_array", f"array {n!r} stands twice") for n in set(names) if names.count(n) > 1
    ]
    if faults:
        raise BadInput(faults)
    return headers


def read(path: Path, name: str) -> Array:
    """One array of a file that `inspect` accepted.

    Raises BadInput when its data is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}{NPY}") as file:
            array: Array = npy.read_array(file, allow_pickle=False)
            return array
    except MemoryError:  # says nothing about the data
        raise
    except Exception as error:  # zlib, zipfile and NumPy meet bytes of a stranger
        raise _refused(
            pointer(name),
            "damaged_array",
            f"the data of array {name!r} is damaged: too few bytes, or a wrong checksum",
        ) from error


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayHeader | Fault:
    name = member.filename.removesuffix(NPY)
    place = pointer(name)
    if not member.filename.endswith(NPY):
        return Fault(place, "not_an_array", f"{member.filename!r} is no .npy array")
    try:
        with archive.open(member) as file:
            shape, dtype, header_bytes = _read_header(file)
    except Exception:  # NumPy parses the header as Python, zlib inflates it: each raises errors of its own
        return Fault(
            place, "damaged_header", f"array {name!r} has an unreadable header, expected one of .npy version 1.0 or 2.0"
        )
    if dtype.hasobject:
        return Fault(place, "pickled_object", f"array {name!r} holds pickled Python objects, expected numbers")
    if dtype.kind not in NUMERIC_KINDS + TEXT_KINDS:
        return Fault(place, "not_numeric", f"array {name!r} has dtype {dtype}, expected numbers or text")
    if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0:
        return Fault(place, "bad_shape", f"array {name!r} has shape {shape}, expected at most {MOST_DIMENSIONS} axes")
    expected = dtype.itemsize * int(np.prod(shape, dtype=object)) + header_bytes
    if member.file_size != expected:
        detail = f"array {name!r} of shape {shape} has {member.file_size} bytes, expected {expected}"
        return Fault(place, "size_mismatch", detail)
    return ArrayHeader(name, shape, dtype)


def _read_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    counted: BinaryIO = file
    version = npy.read_magic(counted)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(counted)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(counted)
    else:
        raise ValueError(f"version {version} of the .npy format")
    return shape, dtype, counted.tell()


def _refused(pointer: str, code: str, detail: str) -> BadInput:
    return BadInput([Fault(pointer, code, detail)])
