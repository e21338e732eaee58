"""A model version as one file: an uncompressed tar of its manifest and its checkpoint.

The layout follows from the manifest and the checkpoint's size alone: `prefix`, the checkpoint, `suffix`. The same
version therefore gives the same bytes. A reader accepts this layout and no other. It writes to the caller's sink and
never to a path that the file names.
"""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import BinaryIO, Protocol

from models.io import manifests
from models.io.manifests import ARTIFACT, Manifest

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 1024 * 1024

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
# A POSIX (ustar) header has eleven octal digits for the size. GNU headers hold larger sizes as a binary number.
MAX_USTAR_BYTES = 8**11 - 1
MAGIC_AT = 257
USTAR_MAGIC = b"ustar\0"


class BundleError(ValueError):
    """A file that is not a bundle, is damaged, or was written by a newer version."""


class Sink(Protocol):
    """A destination of bytes."""

    def write(self, piece: bytes, /) -> object:
        """Write the next piece."""


def prefix(manifest: Manifest, size: int) -> bytes:
    """The bytes in front of a checkpoint of `size` bytes. Raises BundleError for a manifest that is too large."""
    content = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST} has {len(content)} bytes, expected at most {MAX_MANIFEST_BYTES}")
    return _header(MANIFEST, len(content)) + content + _padding(len(content)) + _header(ARTIFACT, size)


def suffix(size: int) -> bytes:
    """The bytes behind a checkpoint of `size` bytes."""
    return _padding(size) + END


def is_bundle(path: Path) -> bool:
    """Whether a file begins as a tar does. A checkpoint may have the magic there too, but begins with a JSON header."""
    with path.open("rb") as file:
        start = file.read(BLOCK)
    return start[MAGIC_AT:].startswith(b"ustar") and start[8:9] != b"{"


def describe(path: Path) -> Manifest:
    """The manifest of a bundle. The checkpoint is not read. Raises BundleError."""
    with path.open("rb") as file:
        return read_manifest(file, path.name)


def read_manifest(file: BinaryIO, name: str) -> Manifest:
    """The manifest of an open bundle; `name` stands in errors. Leaves the file at the first byte of the checkpoint.

    Raises BundleError.
    """
    file_size = file.seek(0, 2)
    file.seek(0)
    size = _read_header(file, name, MANIFEST)
    if size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{name}: {MANIFEST} has {size} bytes, expected at most {MAX_MANIFEST_BYTES}")
    try:
        manifest = manifests.parse(file.read(size))
    except ValueError as error:
        raise BundleError(f"{name}: {MANIFEST} {error}") from error
    _expect_zeros(file.read(len(_padding(size))), f"{name}: {MANIFEST}")
    size, announced = _read_header(file, name, ARTIFACT), manifest["artifact"]["size_bytes"]
    if size != announced:
        raise BundleError(f"{name}: {ARTIFACT} has {size} bytes, expected {announced} as {MANIFEST} says")
    start = file.tell()
    if file_size != (expected := start + size + len(suffix(size))):
        raise BundleError(f"{name} has {file_size} bytes, expected {expected}: two members and the end, nothing else")
    file.seek(start + size)
    _expect_zeros(file.read(), f"{name}: {ARTIFACT}")
    file.seek(start)
    return manifest


def extract(path: Path, to: Sink) -> Manifest:
    """Write a bundle's checkpoint to `to`. After a BundleError, the bytes written so far must not be used."""
    with path.open("rb") as file:
        manifest = read_manifest(file, path.name)
        digest, left = hashlib.sha256(), manifest["artifact"]["size_bytes"]
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            digest.update(piece)
            to.write(piece)
            left -= len(piece)
    expected = manifest["artifact"]["sha256"]
    if digest.hexdigest() != expected:
        raise BundleError(f"{path.name}: {ARTIFACT} has sha256 {digest.hexdigest()}, expected {expected}")
    return manifest


def _header(name: str, size: int) -> bytes:
    """The block in front of a member: a regular file of mode 644, with owner 0 and time 0."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT if size <= MAX_USTAR_BYTES else tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    """The zeros that fill the last block of a member."""
    return bytes(-size % BLOCK)


def _read_header(file: BinaryIO, name: str, member_name: str) -> int:
    """The size in the next header, which must be exactly the header that a bundle has there. Raises BundleError."""
    block = file.read(BLOCK)
    try:
        member = tarfile.TarInfo.frombuf(block, "ascii", "surrogateescape")
    except tarfile.HeaderError as error:
        found = f"{len(block)} bytes that begin with {block[:8]!r}"
        raise BundleError(
            f"{name} is not a bundle: it has {found}, expected the tar header of {member_name!r}"
        ) from error
    if member.name != member_name:
        found = member.name.encode("ascii", "backslashreplace").decode()
        raise BundleError(f"{name} is not a bundle: it has a member {found!r}, expected {member_name!r}")
    if member.type != tarfile.REGTYPE:
        raise BundleError(
            f"{name} is not a bundle: {member_name!r} is of type {member.type!r}, expected a regular file "
            f"({tarfile.REGTYPE!r})"
        )
    if member.size < 0 or not _is_expected(block, _header(member_name, member.size)):
        raise BundleError(
            f"{name} is not a bundle: the header of {member_name!r} differs from the expected one, that of a POSIX tar "
            "(ustar) with mode 644, owner 0 and time 0"
        )
    return member.size


def _is_expected(block: bytes, expected: bytes) -> bool:
    """Whether two headers are equal.

    A GNU header is also accepted with the magic of a POSIX header, and therefore another checksum: earlier versions
    wrote members above 8 GiB so.
    """
    if block == expected or USTAR_MAGIC in expected:
        return block == expected
    magic, checksum = slice(MAGIC_AT, MAGIC_AT + 8), slice(148, 156)
    return all(
        block[start:stop] == expected[start:stop]
        for start, stop in ((0, checksum.start), (checksum.stop, magic.start), (magic.stop, BLOCK))
    )


def _expect_zeros(found: bytes, place: str) -> None:
    if found.strip(b"\0"):
        raise BundleError(f"{place} is followed by {found.strip(bytes(1))[:8]!r}, expected zeros")
