"""A file in the store with something in front of it and behind it, sent as one: as a whole or in part."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from service.registry.schemas import ModelVersion
from service.shared.storage import CorruptArtifact, Storage

PIECE_BYTES = 1024 * 1024


def open_artifact(storage: Storage, project_id: str, version: ModelVersion, start: int) -> BinaryIO:
    """The file of a version, of which nothing in front of the byte `start` is asked for.

    It is checked, unless a download goes on: reading all of it for every part would make many parts slow, and whoever
    puts them together has the digest at their beginning. Raises CorruptArtifact.
    """
    if start:
        try:
            file = storage.path(project_id, version.sha256).open("rb")
        except FileNotFoundError:
            pass
        else:
            if os.fstat(file.fileno()).st_size == version.size_bytes:
                return file
            file.close()
    return storage.fetch(project_id, version.sha256, version.size_bytes).open("rb")


def pieces(before: bytes, file: BinaryIO, size: int, after: bytes, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` to `stop` of all three, one behind the other."""
    with file:
        if start < len(before):
            yield before[start:stop]
        at, end = max(start - len(before), 0), min(stop - len(before), size)
        file.seek(min(at, size))
        while at < end:
            if not (piece := file.read(min(PIECE_BYTES, end - at))):
                raise CorruptArtifact(f"the file ends after {at} bytes, expected {size}")
            yield piece
            at += len(piece)
        behind = len(before) + size
        if stop > behind:
            yield after[max(start - behind, 0) : stop - behind]
