"""Reads untrusted .npz files: every header is checked before data is inflated, and nothing is unpickled."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from service.shared.errors import BadInput, Fault, pointer

Array = np.ndarray[Any, np.dtype[Any]]

MAX_ARRAYS = 1000
MAX_DIMENSIONS = 8
NUMERIC_KINDS = "biuf"
TEXT_KINDS = "US"
NPY = ".npy"


@dataclass(frozen=True)
class ArrayHeader:
    """The header of one array."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def inspect(path: Path, max_bytes: int) -> list[ArrayHeader]:
    """The headers of all arrays in an .npz file. Does not read their data.

    Raises BadInput with every fault: not a zip archive, a member that is not an array, pickled objects, an unsupported
    dtype, a size that does not match the shape, or more than `max_bytes` when unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if not members:
                raise _refused("", "empty_file", "the .npz file has no arrays, expected at least one")
            if len(members) > MAX_ARRAYS:
                detail = f"the .npz file has {len(members)} arrays, expected at most {MAX_ARRAYS}"
                raise _refused("", "too_many_arrays", detail)
            unpacked = sum(member.file_size for member in members)
            if unpacked > max_bytes:
                detail = f"the .npz file has {unpacked} bytes when unpacked, expected at most {max_bytes}"
                raise _refused("", "too_large", detail)
            headers: list[ArrayHeader] = []
            faults: list[Fault] = []
            for member in members:
                header = _header(archive, member)
                if isinstance(header, Fault):
                    faults.append(header)
                else:
                    headers.append(header)
    except BadInput:
        raise
    except Exception as error:  # the errors that zipfile raises for damaged archives are not documented
        detail = "the file is not a complete .npz archive, expected one that numpy.savez writes"
        raise _refused("", "not_npz", detail) from error
    names = [header.name for header in headers]
    faults += [
        Fault(pointer(name), "duplicate_array", f"the .npz file has array {name!r} twice, expected unique names")
        for name in set(names)
        if names.count(name) > 1
    ]
    if faults:
        raise BadInput(faults)
    return headers


def read(path: Path, name: str) -> Array:
    """One array of a file that `inspect` accepted. Raises BadInput if its data is damaged."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}{NPY}") as file:
            array: Array = npy.read_array(file, allow_pickle=False)
            return array
    except MemoryError:  # not a fault of the data
        raise
    except Exception as error:  # zlib, zipfile and NumPy raise undocumented errors for damaged data
        detail = f"the data of array {name!r} is damaged: it is too short, or its checksum is wrong; upload it again"
        raise _refused(pointer(name), "damaged_array", detail) from error


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayHeader | Fault:
    name = member.filename.removesuffix(NPY)
    place = pointer(name)
    if not member.filename.endswith(NPY):
        return Fault(place, "not_an_array", f"member {member.filename!r} is not an array, expected a name with .npy")
    try:
        with archive.open(member) as file:
            shape, dtype, header_bytes = _read_header(file)
    except Exception:  # NumPy's header parser and zlib raise various errors
        return Fault(
            place, "damaged_header", f"array {name!r} has an unreadable header, expected one of .npy version 1.0 or 2.0"
        )
    if dtype.hasobject:
        return Fault(place, "pickled_object", f"array {name!r} holds pickled Python objects, expected numbers")
    if dtype.kind not in NUMERIC_KINDS + TEXT_KINDS:
        return Fault(place, "not_numeric", f"array {name!r} has dtype {dtype}, expected numbers or text")
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0:
        return Fault(place, "bad_shape", f"array {name!r} has shape {shape}, expected at most {MAX_DIMENSIONS} axes")
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
        raise ValueError(f"unsupported version {version} of the .npy format")
    return shape, dtype, counted.tell()


def _refused(pointer: str, code: str, detail: str) -> BadInput:
    return BadInput([Fault(pointer, code, detail)])
