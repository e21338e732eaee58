"""A model version as one file that travels: a tar of its manifest and its checkpoint, the same bytes every time.

Where everything stands follows from the manifest and the checkpoint's size alone: `prefix`, the checkpoint, `suffix`.
A reader takes exactly this layout, so that nothing is ever unpacked to a place of somebody else's choice.
"""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO, Protocol

from models.io import manifests, tar
from models.io.manifests import ARTIFACT, Manifest

MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 4 * 1024 * 1024

PIECE_BYTES = 1024 * 1024


class BundleError(ValueError):
    """A file that is no bundle of ours, is damaged, or was written by a newer version."""


class Sink(Protocol):
    """Something that bytes are written to."""

    def write(self, piece: bytes, /) -> object:
        """Take the next piece."""


def prefix(manifest: Manifest, size: int) -> bytes:
    """What stands before a checkpoint of `size` bytes. Raises BundleError for a manifest that nobody would read."""
    content = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
    if len(content) > MOST_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST} has {len(content)} bytes, expected at most {MOST_MANIFEST_BYTES}")
    return tar.header(MANIFEST, len(content)) + content + tar.padding(len(content)) + tar.header(ARTIFACT, size)


def suffix(size: int) -> bytes:
    """What stands behind a checkpoint of `size` bytes."""
    return tar.padding(size) + tar.END


def is_bundle(path: Path) -> bool:
    """Whether a file begins as a tar does. A checkpoint may have the same word there, and has a brace before it."""
    with path.open("rb") as file:
        start = file.read(tar.BLOCK)
    return start[tar.MAGIC_AT :].startswith(b"ustar") and start[8:9] != b"{"


def describe(path: Path) -> Manifest:
    """The manifest of a bundle, which says what is in it; the checkpoint is not read. Raises BundleError."""
    with path.open("rb") as file:
        return read_manifest(file, path.name)


def read_manifest(file: BinaryIO, name: str) -> Manifest:
    """The manifest of an open file called `name`, which is left at the checkpoint's first byte. Raises BundleError."""
    whole = file.seek(0, 2)
    file.seek(0)
    size = _member(file, name, MANIFEST)
    if size > MOST_MANIFEST_BYTES:
        raise BundleError(f"{name}: {MANIFEST} has {size} bytes, expected at most {MOST_MANIFEST_BYTES}")
    try:
        manifest = manifests.parse(file.read(size))
    except ValueError as error:
        raise BundleError(f"{name}: {MANIFEST} {error}") from error
    _expect_zeros(file.read(len(tar.padding(size))), f"{name}: {MANIFEST}")
    size, said = _member(file, name, ARTIFACT), manifest["artifact"]["size_bytes"]
    if size != said:
        raise BundleError(f"{name}: {ARTIFACT} has {size} bytes, expected {said} as {MANIFEST} says")
    start = file.tell()
    if whole != (expected := start + size + len(suffix(size))):
        raise BundleError(f"{name} has {whole} bytes, expected {expected}: two members and the end, nothing else")
    file.seek(start + size)
    _expect_zeros(file.read(), f"{name}: {ARTIFACT}")
    file.seek(start)
    return manifest


def extract(path: Path, to: Sink) -> Manifest:
    """Write a bundle's checkpoint to `to`. Raises BundleError, and then what was written is not to be used."""
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


def _member(file: BinaryIO, name: str, expected: str) -> int:
    try:
        return tar.size_in(file.read(tar.BLOCK), expected)
    except ValueError as error:
        raise BundleError(f"{name} is no bundle: {error}") from error


def _expect_zeros(found: bytes, place: str) -> None:
    if found.strip(b"\0"):
        raise BundleError(f"{place} is followed by {found.strip(bytes(1))[:8]!r}, expected zeros")
