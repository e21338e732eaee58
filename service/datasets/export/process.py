"""Writes exports in a child process.

JSON and Parquet writers hold Python's interpreter lock. In a thread of the API, an export delayed every other request
by tens of milliseconds; a process has its own lock, and a lower priority. It writes one piece at a time; concurrent
exports take turns.
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
from service.shared.parser_process import Read, ReadingProcess, Values
from service.shared.response_parts import parts

NICENESS = 10

_running: dict[str, Iterator[bytes]] = {}
"""The started exports, in the child process."""


class Exporter:
    """The child process; it starts with the first export."""

    def __init__(self) -> None:
        self._process = ReadingProcess()

    async def pieces(self, path: Path, format: str) -> AsyncIterator[memoryview]:
        """The samples of a stored file in another format. Raises Unavailable if the process exits."""
        export = {"id": str(ULID()), "path": str(path), "format": format}
        try:
            await self._process.read(begin, export, b"")
            while True:
                values, arrays = await self._process.read(next_piece, export, b"")
                for part in parts(arrays["piece"].data):
                    yield part
                if values["is_last"]:
                    return
        finally:
            with CancelScope(shield=True), suppress(Unavailable):  # also if the client has disconnected
                await self._process.read(end, export, b"")

    def close(self) -> None:
        """End the process."""
        self._process.close()


def begin(export: Values, _: bytes) -> Read:
    """Open the stored file. Runs in the child process."""
    _lower_priority()
    garbage_collection.freeze()  # the process runs a garbage collection after every message
    write = formats.downloads()[export["format"]].write
    _running[export["id"]] = write(samples.open(Path(export["path"])))
    return {}, {}


def next_piece(export: Values, _: bytes) -> Read:
    """The next piece of an export. Runs in the child process, which does not know the exports of an earlier one."""
    piece = next(_running[export["id"]], None)
    return {"is_last": piece is None}, {"piece": np.frombuffer(piece or b"", np.uint8)}


def end(export: Values, _: bytes) -> Read:
    """Remove an export. Runs in the child process."""
    _running.pop(export["id"], None)
    return {}, {}


@cache
def _lower_priority() -> None:
    os.nice(NICENESS)
