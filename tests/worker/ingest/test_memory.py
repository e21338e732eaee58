"""A converter refuses a file that needs more memory than its limit, and survives to report it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worker.child_process import ChildProcess, start_process

MIB = 1024**2
LIMIT = 128 * MIB
# Numbers whose zigzag varints have four bytes each, so that one can stand in place of the other.
MANY, FEW = 40_000_000, 2_000_000


def convert(path: Path, format: str) -> list[dict[str, Any]]:
    """The events of a converter that reads a file."""
    result = path.with_name("stored")
    spec = {"source": {"file": str(path), "format": format}, "declaration": {}, "result": str(result)}
    with ChildProcess(start_process(["worker.ingest.converter"]), MIB) as child:
        child.send_spec(spec)
        assert child.wait(120)
        assert child.ending() == "ended with status 0", child.log()
        return child.events()


def varint(number: int) -> bytes:
    """A number as Parquet encodes it: zigzag, then seven bits per byte."""
    found, left = b"", 2 * number
    while left > 127:
        found, left = found + bytes([left & 127 | 128]), left >> 7
    return found + bytes([left])


def long_list(path: Path) -> str:
    """A row of 40 million zeros, of which the footer announces two million."""
    lists = pa.ListArray.from_arrays(pa.array([0, MANY], pa.int32()), pa.array(np.zeros(MANY, np.float32)))
    pq.write_table(pa.table({"x": lists}), path, data_page_size=2**30)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little") + 8
    footer = content[-length:]
    assert varint(MANY) in footer
    path.write_bytes(content[:-length] + footer.replace(varint(MANY), varint(FEW)))
    return "parquet"


def empty_lists(path: Path) -> str:
    """A line of many empty lists, each of which is an object in memory."""
    path.write_text('{"x": [' + ",".join(["[]"] * 5_000_000) + "]}\n")
    return "jsonl"


@pytest.mark.parametrize("write", [long_list, empty_lists])
def test_file_that_needs_more_memory_than_the_limit_is_too_large(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENSORIUM_CONVERSION_MEMORY_BYTES", str(LIMIT))
    *_, last = convert(tmp_path / "upload", write(tmp_path / "upload"))
    assert (last["event"], last["code"], last["retry"]) == ("failed", "dataset_rejected", False)
    assert [(error["pointer"], error["code"]) for error in last["errors"]] == [("", "too_large")]
    assert f"needs more than {LIMIT} bytes of memory: write smaller rows" in last["detail"]
    assert not (tmp_path / "stored").exists()


def test_file_within_the_memory_limit_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_CONVERSION_MEMORY_BYTES", str(LIMIT))
    path = tmp_path / "upload"
    values = np.random.default_rng(0).normal(size=(200_000, 64)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 64)
    pq.write_table(pa.table({"x": lists}), path, row_group_size=50_000)
    *_, last = convert(path, "parquet")
    assert (last["event"], last["rows"]) == ("finished", 200_000)
