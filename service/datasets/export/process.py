"""Makes exports in a process of their own.

JSON and Parquet writers hold Python's interpreter lock. In a thread of the API, an export delayed every other request
by tens of milliseconds; a process has its own lock, and a lower priority. It makes one piece after the other, of all
exports in turn.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from anyio import CancelScope
from ulid import ULID

from service.datasets import formats
from service.shared import garbage_collection, samples
from service.shared.errors import Unavailable
from service.shared.parser_process import Read, ReadingProcess, Said

NICENESS = 10
SENT_BYTES = 256 * 1024
"""A piece is sent in parts of this size: sending a large one holds up the event loop."""

_running: dict[str, Iterator[bytes]] = {}
"""In the process: the exports that have begun."""


class Exporter:
    """The process, which starts with the first export."""

    def __init__(self) -> None:
        self._process = ReadingProcess()

    async def pieces(self, path: Path, format: str) -> AsyncIterator[memoryview]:
        """The samples of a stored file in another format. Raises Unavailable if the process ends."""
        export = {"id": str(ULID()), "path": str(path), "format": format}
        await self._process.read(begin, export, b"")
        try:
            while True:
                said, arrays = await self._process.read(next_piece, export, b"")
                piece = arrays["piece"].data
                for start in range(0, len(piece), SENT_BYTES):
                    yield piece[start : start + SENT_BYTES]
                if said["is_last"]:
                    return
        finally:
            with CancelScope(shield=True), suppress(Unavailable):  # also when the client has gone
                await self._process.read(end, export, b"")

    def close(self) -> None:
        """End the process."""
        self._process.close()


def begin(export: Said, _: bytes) -> Read:
    """Runs in the process: open the stored file."""
    _lower_priority()
    garbage_collection.freeze()  # the process collects after every message
    write = formats.downloads()[export["format"]].write
    _running[export["id"]] = write(samples.open(Path(export["path"])))
    return {}, {}


def next_piece(export: Said, _: bytes) -> Read:
    """Runs in the process: the next piece of an export. A new process does not know the exports of the one before."""
    piece = next(_running[export["id"]], None)
    return {"is_last": piece is None}, {"piece": np.frombuffer(piece or b"", np.uint8)}


def end(export: Said, _: bytes) -> Read:
    """Runs in the process: forget an export."""
    _running.pop(export["id"], None)
    return {}, {}


@cache
def _lower_priority() -> None:
    os.nice(NICENESS)
