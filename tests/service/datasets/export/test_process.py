"""Exports run in one process, one after the other; an export whose process exits is aborted, not restarted."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from service.datasets import formats
from service.datasets.export.process import Exporter
from service.shared import samples
from service.shared.errors import Unavailable
from service.shared.response_parts import MAX_BYTES
from service.shared.samples import ModalitySchema, Samples, Schema, Writer
from tests.conftest import wait_until

FORMATS = ("npz", "parquet", "jsonl")
ROWS = 60_000  # of 200 bytes each: several pieces


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "samples"
    schema = Schema(kind="static", modalities=(ModalitySchema(name="x", shape=(50,), dtype="float32"),))
    values = np.random.default_rng(0).standard_normal((ROWS, 50), np.float32)
    with Writer(path) as writer:
        writer.add(Samples(schema, ROWS, {"x": values}, {"x": np.ones(ROWS, bool)}, None))
        writer.finish(schema, ROWS)
    return path


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    exporter.close()


def test_exports_at_the_same_time_equal_those_made_in_this_process(exporter: Exporter, stored: Path) -> None:
    async def read(format: str) -> tuple[bytes, int]:
        pieces = [bytes(piece) async for piece in exporter.pieces(stored, format)]
        return b"".join(pieces), max(map(len, pieces))

    async def read_all() -> list[tuple[bytes, int]]:
        return await asyncio.gather(*map(read, FORMATS))

    for format, (content, longest) in zip(FORMATS, asyncio.run(read_all()), strict=True):
        assert content == b"".join(formats.downloads()[format].write(samples.open(stored))), format
        assert longest <= MAX_BYTES


def test_an_export_that_is_cancelled_while_it_begins_leaves_no_open_file(exporter: Exporter, stored: Path) -> None:
    copy = stored.with_name("cancelled")
    copy.write_bytes(stored.read_bytes())

    async def read() -> None:
        pieces = exporter.pieces(stored, "npz")
        await anext(pieces)  # the process runs
        beginning = asyncio.create_task(anext(exporter.pieces(copy, "npz")))
        await asyncio.sleep(0)
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        await pieces.aclose()  # behind the messages of the cancelled one

    asyncio.run(read())
    maps = Path(f"/proc/{_process()}/maps")
    wait_until(lambda: str(copy) not in maps.read_text(), 10, "the file to be closed")


def test_an_export_breaks_off_when_its_process_ends(exporter: Exporter, stored: Path) -> None:
    async def read() -> None:
        pieces = exporter.pieces(stored, "jsonl")
        await anext(pieces)
        other = exporter.pieces(stored, "jsonl")
        await anext(other)
        os.kill(_process(), signal.SIGKILL)
        with pytest.raises(Unavailable):
            await _last(pieces)
        with pytest.raises(RuntimeError, match="KeyError"):  # the next process does not restart the export
            await _last(other)

    asyncio.run(read())


async def _last(pieces: AsyncIterator[memoryview]) -> None:
    async for _ in pieces:
        pass


def _process() -> int:
    """The id of the only child process that reads and writes messages."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        found += [int(pid) for pid in children.read_text().split()]
    return next(pid for pid in found if b"parser_process" in Path(f"/proc/{pid}/cmdline").read_bytes())
