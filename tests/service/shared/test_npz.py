"""Untrusted .npz files: reading them gives arrays, or BadInput with the place."""

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.shared import npz
from service.shared.errors import BadInput, Fault
from tests.service.files import archive, npy, packed

LIMIT = 10_000_000
WHOLE = packed(image=np.arange(12, dtype=np.float32).reshape(3, 4), label=np.array([0, 1, 2]))


def refused(folder: Path, content: bytes, max_bytes: int = LIMIT) -> Fault:
    path = folder / "file.npz"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        npz.inspect(path, max_bytes)
    return caught.value.faults[0]


def test_inspect_returns_name_shape_and_dtype(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(WHOLE)
    headers = {header.name: (header.shape, header.dtype) for header in npz.inspect(path, LIMIT)}
    assert headers == {"image": ((3, 4), np.dtype("float32")), "label": ((3,), np.dtype("int64"))}
    np.testing.assert_array_equal(npz.read(path, "label"), [0, 1, 2])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(5.0),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">i2"),
        np.array([True, False]),
        np.arange(3, dtype=np.float16),
    ],
    ids=["empty", "scalar", "fortran", "big-endian", "bool", "half"],
)
def test_every_numeric_array_is_read(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(packed(a=array))
    assert [header.shape for header in npz.inspect(path, LIMIT)] == [array.shape]
    np.testing.assert_array_equal(npz.read(path, "a"), array)


@pytest.mark.parametrize(
    "content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 50, WHOLE[:-30], WHOLE[: len(WHOLE) // 2]]
)
def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refused(tmp_path, content).code == "not_npz"


def test_an_archive_without_arrays_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, archive({})).code == "empty_file"


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    content = packed(good=np.zeros(3), bad=np.array([Trap()], dtype=object))
    fault = refused(tmp_path, content)
    assert (fault.pointer, fault.code) == ("/bad", "pickled_object")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "array", [np.array([1j]), np.array(["2020"], dtype="M8[D]"), np.zeros(2, [("a", "f4")])], ids=str
)
def test_arrays_that_are_not_numeric_are_refused(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    fault = refused(tmp_path, packed(a=array))
    assert (fault.pointer, fault.code) == ("/a", "not_numeric")


def test_a_structured_array_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, packed(a=np.zeros(2, dtype=[("x", "f4")]))).code == "not_numeric"


def test_a_member_that_is_not_an_array_is_refused(tmp_path: Path) -> None:
    fault = refused(tmp_path, archive({"image.npy": npy(np.zeros(2)), "readme.txt": b"hello"}))
    assert (fault.pointer, fault.code) == ("/readme.txt", "not_an_array")


@pytest.mark.parametrize("content", [b"", b"hello", npy(np.zeros(2))[:20], b"\x93NUMPY\x09\x00" + b"\0" * 20])
def test_a_member_without_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    fault = refused(tmp_path, archive({"a.npy": content}))
    assert (fault.pointer, fault.code) == ("/a", "damaged_header")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'x': 1}",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': 'three'}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1.5,)}",
        "__import__('os').getcwd()",
        "(" * 5000,
        "'''",
        "  x\n y\n\tz",
    ],
)
def test_an_invalid_header_is_refused(tmp_path: Path, header: str) -> None:
    text = header.encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 24
    assert refused(tmp_path, archive({"a.npy": content})).code == "damaged_header"


def test_a_negative_axis_is_refused(tmp_path: Path) -> None:
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    assert refused(tmp_path, archive({"a.npy": content})).code in ("bad_shape", "damaged_header")


@pytest.mark.parametrize("change", [lambda whole: whole[:-8], lambda whole: whole + b"\0" * 8], ids=["less", "more"])
def test_a_size_that_contradicts_the_header_is_refused(tmp_path: Path, change: Any) -> None:
    fault = refused(tmp_path, archive({"a.npy": change(npy(np.zeros(10)))}))
    assert (fault.pointer, fault.code) == ("/a", "size_mismatch")


def test_arrays_with_the_same_name_are_refused(tmp_path: Path) -> None:
    content = archive({"a.npy": npy(np.zeros(2)), "b.npy": npy(np.ones(2))}).replace(b"b.npy", b"a.npy")
    fault = refused(tmp_path, content)
    assert (fault.pointer, fault.code) == ("/a", "duplicate_array")


def test_a_file_above_the_unpacked_limit_is_refused_unread(tmp_path: Path) -> None:
    content = packed(bomb=np.zeros(LIMIT, dtype=np.float32))
    assert len(content) < 100_000
    assert refused(tmp_path, content).code == "too_large"


def test_a_zip_bomb_is_read_only_up_to_its_declared_size(tmp_path: Path) -> None:
    """The archive's directory declares 100 bytes; reading stops there, and the checksum does not match."""
    content = bytearray(archive({"a.npy": npy(np.zeros(100_000))}))
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, 100)
    assert refused(tmp_path, bytes(content), max_bytes=1000).code in ("damaged_header", "size_mismatch")


def test_too_many_arrays_are_refused(tmp_path: Path) -> None:
    content = archive({f"a{n}.npy": b"" for n in range(npz.MAX_ARRAYS + 1)})
    assert refused(tmp_path, content).code == "too_many_arrays"


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(WHOLE)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    assert refused(tmp_path, bytes(content)).code == "damaged_header"


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    content = bytearray(WHOLE)
    for signature, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", content, content.index(signature) + method, 77)
    assert refused(tmp_path, bytes(content)).code in ("not_npz", "damaged_header")


def test_all_faulty_arrays_are_named_together(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(packed(a=np.array([1j]), b=np.zeros(2), c=np.array([None], dtype=object)))
    with pytest.raises(BadInput) as caught:
        npz.inspect(path, LIMIT)
    assert [fault.pointer for fault in caught.value.faults] == ["/a", "/c"]


def test_a_damaged_compressed_header_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive({"a.npy": npy(np.random.default_rng(0).random(100))}))
    start = 30 + len("a.npy")
    content[start : start + 20] = b"\xff" * 20
    assert refused(tmp_path, bytes(content)).code == "damaged_header"


def test_damaged_data_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    content = bytearray(archive({"a.npy": npy(np.random.default_rng(0).random(20_000))}))
    content[len(content) // 2 : len(content) // 2 + 200] = b"\xff" * 200
    path.write_bytes(content)
    npz.inspect(path, LIMIT)
    with pytest.raises(BadInput) as caught:
        npz.read(path, "a")
    assert (caught.value.faults[0].pointer, caught.value.faults[0].code) == ("/a", "damaged_array")


@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    spoils=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.integers(len(WHOLE) // 2, len(WHOLE)),
)
def test_a_file_with_changed_bytes_gives_arrays_or_bad_input(
    tmp_path: Path, spoils: list[tuple[int, int]], keep: int
) -> None:
    content = bytearray(WHOLE)
    for place, value in spoils:
        content[place] = value
    path = tmp_path / "file.npz"
    path.write_bytes(content[:keep])
    with contextlib.suppress(BadInput):
        for header in npz.inspect(path, LIMIT):
            assert npz.read(path, header.name).shape == header.shape
