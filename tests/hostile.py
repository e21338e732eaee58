"""Files that no reader should trust: damaged, lying, enormous when unpacked, or simply something else."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.service.files import Array, archive, npy, packed

DEEP = 40
BOMB_BYTES = 200 * 1024**2


def corpus() -> dict[str, bytes]:
    """Every file by a name that says what is wrong with it."""
    return dict([*_strangers(), *_npz(), *_parquet(), *_json_lines()])


def _strangers() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "one byte", b"\0"
    yield "pickle", pickle.dumps({"x": [1.0]})
    yield "gzip", gzip.compress(b'{"x": 1}\n')
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100)
    yield "bare npy", npy(np.zeros(3))
    yield "script", b"#!/bin/sh\nrm -rf /\n"
    yield "utf-16 text", '{"x": 1}\n'.encode("utf-16")


def _npz() -> Iterator[tuple[str, bytes]]:
    good = packed(x=np.arange(400.0).reshape(100, 4), y=np.zeros(100))
    yield "npz: cut in half", good[: len(good) // 2]
    yield "npz: without its directory", good[:60]
    yield "npz: no members", archive({})
    yield "npz: a zip of something else", archive({"readme.txt": b"hello"})
    yield "npz: a program inside", archive({"x.npy": b"\x7fELF" + bytes(200)})
    yield "npz: header is longer than the file", archive({"x.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"})
    yield "npz: header calls a function", _headed(b"__import__('os').system('true')")
    yield "npz: header is no dictionary", _headed(b"[1, 2]")
    yield "npz: header nested deep", _headed(b"(" * 5000)
    yield "npz: version 9", archive({"x.npy": b"\x93NUMPY\x09\x00" + bytes(100)})
    yield "npz: negative size", _shaped("(-3, 4)")
    yield "npz: size over 64 bits", _shaped("(4611686018427387904, 8)")
    yield "npz: fewer bytes than announced", _shaped("(1000,)")
    yield "npz: more bytes than announced", archive({"x.npy": npy(np.zeros(3)) + bytes(64)})
    yield "npz: nine axes", packed(x=np.zeros((1,) * 9))
    yield "npz: pickled objects", packed(x=np.array([{"a": 1}, None], dtype=object))
    yield "npz: records", packed(x=np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]))
    yield "npz: dates", packed(x=np.zeros(3, dtype="datetime64[s]"))
    yield "npz: raw bytes", packed(x=np.zeros(3, dtype="V8"))
    yield "npz: complex numbers", packed(x=np.zeros(3, dtype=np.complex64))
    yield "npz: text", packed(x=np.array(["a", "b"]))
    yield "npz: a bomb", packed(x=np.zeros(BOMB_BYTES // 8))
    yield "npz: a bomb behind a small header", archive({"x.npy": npy(np.zeros(3)) + bytes(BOMB_BYTES)})
    yield "npz: an array twice", _twice()
    yield "npz: a name that climbs", archive({"../../etc/passwd.npy": npy(np.zeros(3))})
    yield "npz: an absolute name", archive({"/tmp/x.npy": npy(np.zeros(3))})
    yield "npz: a name with a line break", archive({"a\nb.npy": npy(np.zeros(3))})
    yield "npz: a name in unicode", archive({"naïve\u202e.npy": npy(np.zeros(3))})
    yield "npz: an empty name", archive({".npy": npy(np.zeros(3))})
    yield "npz: too many arrays", archive({f"x{number}.npy": npy(np.zeros(1)) for number in range(1001)})
    yield "npz: different rows", packed(x=np.zeros(3), y=np.zeros(4))
    yield "npz: no rows", packed(x=np.zeros((0, 4)))
    yield "npz: nothing finite", packed(x=np.full((200, 3), np.nan))
    yield "npz: infinite", packed(x=np.array([1, np.inf]))
    yield "npz: categories without end", packed(x=np.array([0, 10**12]))
    yield "npz: negative lengths", packed(**{"x": np.zeros((2, 3)), "x.lengths": np.array([-1, 2])})
    yield "npz: lengths over the end", packed(**{"x": np.zeros((2, 3)), "x.lengths": np.array([4, 2])})
    yield "npz: a mask of another shape", packed(**{"x": np.zeros(3), "x.present": np.zeros(4, bool)})
    yield "npz: a mask of nothing", packed(**{"x": np.zeros(3), "y.present": np.zeros(3, bool)})
    yield "npz: wrong checksum", _flipped(archive_stored({"x.npy": npy(np.arange(100.0))}), 300)
    yield "npz: damaged stream", _flipped(packed(x=np.random.default_rng(0).normal(size=1000)), 500)
    yield "npz: encrypted", _patched(good, b"PK\x01\x02", 8, b"\x01\x00")
    yield "npz: unknown compression", _patched(good, b"PK\x01\x02", 10, b"\x63\x00")
    yield "npz: an offset that loops", _patched(good, b"PK\x01\x02", 42, struct.pack("<I", len(good) - 30))
    yield "npz: sizes that lie", _patched(good, b"PK\x01\x02", 24, struct.pack("<I", 2**32 - 2))


def _parquet() -> Iterator[tuple[str, bytes]]:
    vectors = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    good = _table({"x": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)})
    yield "parquet: only its name", b"PAR1PAR1"
    yield "parquet: a footer longer than the file", b"PAR1" + bytes(20) + struct.pack("<I", 10**6) + b"PAR1"
    yield "parquet: a footer of nothing", b"PAR1" + bytes(20) + struct.pack("<I", 0) + b"PAR1"
    yield "parquet: a footer of noise", b"PAR1" + b"\xfe" * 60 + struct.pack("<I", 50) + b"PAR1"
    yield "parquet: cut", good[: len(good) // 2]
    yield "parquet: encrypted footer", good[:-4] + b"PARE"
    for place in range(1, 8):
        yield f"parquet: footer flipped at {place}", _flipped(good, len(good) - 8 - place * 29)
    for place in range(1, 4):
        yield f"parquet: pages flipped at {place}", _flipped(good, place * 17, 40)
    yield "parquet: structs", _table({"x": pa.array([{"a": 1}])})
    yield "parquet: maps", _table({"x": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))})
    yield "parquet: bytes", _table({"x": pa.array([b"a"])})
    yield "parquet: dates", _table({"x": pa.array([1], pa.date32())})
    yield "parquet: nested 40 deep", _table({"x": _nested()})
    yield "parquet: a column twice", _table_of([pa.array([1.0]), pa.array([2.0])], ["x", "x"])
    yield "parquet: a name that climbs", _table({"../../x": pa.array([1.0])})
    yield "parquet: a name in unicode", _table({"naïve\u202e": pa.array([1.0])})
    yield "parquet: an empty name", _table({"": pa.array([1.0])})
    yield "parquet: no rows", _table({"x": pa.array([], pa.float32())})
    yield "parquet: no columns", _table({})
    yield "parquet: nothing but null", _table({"x": pa.nulls(5, pa.float32())})
    yield "parquet: null inside a vector", _table({"x": pa.array([[1.0, None]], pa.list_(pa.float32(), 2))})
    yield "parquet: infinite", _table({"x": pa.array([1.0, np.inf])})
    yield "parquet: a page bomb", _table({"x": pa.array(np.zeros(BOMB_BYTES // 8))}, compression="zstd")
    yield "parquet: a pickled type", _pickled_type()


def _json_lines() -> Iterator[tuple[str, bytes]]:
    yield "json: only a brace", b"{"
    yield "json: lists", b'{"x": 1}\n[1, 2]\n'
    yield "json: not utf-8", b'{"x": "\xff\xfe"}\n'
    yield "json: half a pair", b'{"\\ud800": 1}\n'
    yield "json: NaN", b'{"x": NaN}\n'
    yield "json: too large a number", b'{"x": 1e999}\n'
    yield "json: a number of a thousand digits", b'{"x": ' + b"9" * 1000 + b"}\n"
    yield "json: nested 40 deep", b'{"x": ' + b"[" * DEEP + b"1" + b"]" * DEEP + b"}\n"
    yield "json: nested without end", b'{"x": ' + b"[" * 100_000 + b"\n"
    yield "json: a number and a list", b'{"x": 1}\n{"x": [1, 2]}\n'
    yield "json: ragged vectors", b'{"x": [[1, 2], [3]]}\n'
    yield "json: text among numbers", b'{"x": 1.5}\n{"x": "1.5"}\n'
    yield "json: an object as a value", b'{"x": {"y": 1}}\n'
    yield "json: a name that climbs", b'{"../x": 1}\n'
    yield "json: an empty name", b'{"": 1}\n'
    yield "json: a zero byte in a name", b'{"a\\u0000b": 1}\n'
    yield "json: a long name", json.dumps({"x" * 10_000: 1}).encode()
    yield "json: many columns", json.dumps({f"x{number}": 1 for number in range(20_000)}).encode()
    yield "json: empty rows", b"{}\n{}\n"
    yield "json: rows of null", b'{"x": null}\n{"x": null}\n'
    yield "json: cut", b'{"x": [1, 2]}\n{"x": [1,'
    yield "json: two objects a line", b'{"x": 1}{"x": 2}\n'
    yield "json: single quotes", b"{'x': 1}\n"
    yield "json: empty vectors", b'{"x": []}\n'


def archive_stored(members: dict[str, bytes]) -> bytes:
    """A zip archive that is not compressed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, member in members.items():
            file.writestr(name, member)
    return content.getvalue()


def _headed(header: bytes) -> bytes:
    return archive({"x.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + bytes(64)})


def _shaped(shape: str) -> bytes:
    return _headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode())


def _twice() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("x.npy", npy(np.zeros(3)))
        file.writestr("y.npy", npy(np.ones(3)))
    return content.getvalue().replace(b"y.npy", b"x.npy")


def _flipped(content: bytes, place: int, count: int = 1) -> bytes:
    damaged = bytearray(content)
    for offset in range(place, place + count):
        damaged[offset % len(damaged)] ^= 0xFF
    return bytes(damaged)


def _patched(content: bytes, magic: bytes, offset: int, new: bytes) -> bytes:
    """A field of the first record of this kind, set to something else."""
    place = content.index(magic) + offset
    return content[:place] + new + content[place + len(new) :]


def _table(columns: dict[str, pa.Array], **options: str) -> bytes:
    return _table_of(list(columns.values()), list(columns), **options)


def _table_of(columns: list[pa.Array], names: list[str], **options: str) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=names), content, **options)
    return content.getvalue()


def _nested() -> pa.Array:
    kind, value = pa.float32(), 1.0
    for _ in range(DEEP):
        kind, value = pa.list_(kind), [value]
    return pa.array([value], kind)


def _pickled_type() -> bytes:
    """A column whose Arrow type asks its reader to unpickle: refused, or read as the plain list it is stored as."""
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": _exploit()}
    field = pa.field("x", pa.list_(pa.float32()), metadata=metadata)
    content = io.BytesIO()
    ragged: Array = np.array([0, 2, 3], np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ragged), pa.array(np.ones(3, np.float32)))
    pq.write_table(pa.Table.from_arrays([lists], schema=pa.schema([field])), content)
    return content.getvalue()


class _Exploit:
    def __reduce__(self) -> tuple[type, tuple[str]]:
        return SystemError, ("a stranger's pickle was loaded",)


def _exploit() -> bytes:
    return pickle.dumps(_Exploit())
