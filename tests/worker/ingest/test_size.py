"""The size of a dataset is computed before memory is allocated: a few bytes may require gigabytes."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.datasets.declaration import Declaration
from service.shared import samples
from service.shared.errors import BadInput
from service.shared.settings import Settings
from tests.service.files import packed
from worker.ingest.convert import Converted, convert
from worker.ingest.converter import open_source
from worker.ingest.faults import Faults
from worker.ingest.size import Limits

MIB = 1024**2
LIMIT = 64 * MIB
TIMED = {"kind": "sequence", "step_seconds": 1.0}


def converted(folder: Path, content: bytes, format: str, limits: Limits = Limits(LIMIT), **declared: Any) -> Converted:  # noqa: B008
    path, told = folder / "file", Faults()
    path.write_bytes(content)
    settings = Settings(home=folder, unpacked_bytes=LIMIT)
    source = open_source({"file": str(path), "format": format}, Declaration(**declared), settings, folder, told)
    return convert(source, told, folder / "stored", lambda done: None, limits)


def readings(end: int, rows: int = 1) -> bytes:
    """Two readings, at 0 and `end` seconds, of two modalities in each row."""
    row = {name: value for m in "ab" for name, value in ((m, [1.0, 2.0]), (f"{m}.time", [0, end]))}
    return (json.dumps(row) + "\n").encode() * rows


def parquet(end: int) -> bytes:
    columns = {"a": pa.array([[1.0, 2.0]]), "a.time": pa.array([[0.0, float(end)]])}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def npz(end: int) -> bytes:
    return packed(**{"a": np.ones((1, 2), np.float32), "a.time": np.array([[0.0, end]])})


WIDE_BESIDE_LONG = packed(a=np.zeros((1, 1, 10**6), np.float32), b=np.zeros((1, 10**6), np.float32))


@pytest.mark.parametrize(
    ("content", "format", "declared", "said"),
    [
        (readings(16_000_000), "jsonl", TIMED, "160000018 bytes or more in the stored form"),
        (readings(4_000_000, rows=100), "jsonl", TIMED, "4000001800 bytes or more"),
        (parquet(16_000_000), "parquet", TIMED, "80000013 bytes or more"),
        (npz(16_000_000), "npz", TIMED, "80000013 bytes or more"),
        (WIDE_BESIDE_LONG, "npz", {"kind": "sequence"}, "row 0 has 1000000 common time steps and 4000006000008 bytes"),
        (packed(a=np.tile(np.arange(4, dtype=np.int8), 5 * MIB)), "npz", {}, "bytes or more in the stored form"),
    ],
    ids=["json grid", "json grids", "parquet grid", "npz grid", "wide beside long", "narrow integers"],
)
def test_dataset_that_would_be_too_large_is_refused_before_it_is_made(
    tmp_path: Path, content: bytes, format: str, declared: dict[str, Any], said: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as error:
            converted(tmp_path, content, format, **declared)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.value.faults[0].code == "too_large"
    assert said in error.value.detail
    assert "expected at most" in error.value.detail
    assert peak < 4 * LIMIT
    assert not (tmp_path / "stored").exists()


def test_sparse_grid_within_the_limit_is_made_a_few_rows_at_a_time(tmp_path: Path) -> None:
    made = converted(tmp_path, readings(999_999, rows=6), "jsonl", **TIMED)
    stored = samples.open(tmp_path / "stored")
    assert (made.rows, stored.rows) == (6, 6)
    assert stored.offsets is not None
    assert np.diff(stored.offsets).tolist() == [1_000_000] * 6
    places = np.flatnonzero(stored.present["b"])
    assert places.tolist() == [place for row in range(6) for place in (row * 10**6, row * 10**6 + 999_999)]
    assert stored.values["b"][places].tolist() == [1.0, 2.0] * 6
    assert made.statistics["lengths"] == {"minimum": 10**6, "mean": 10**6, "maximum": 10**6}


def test_remaining_quota_limits_the_dataset(tmp_path: Path) -> None:
    content = packed(a=np.random.default_rng(0).normal(size=1000).astype(np.float32))
    with pytest.raises(BadInput) as error:
        converted(tmp_path, content, "npz", Limits(LIMIT, room=1000))
    assert error.value.code == "quota_exceeded"
    assert "5000 bytes or more in the stored form, 1000 are left of what the project may store" in error.value.detail
    assert converted(tmp_path, content, "npz", Limits(LIMIT, room=10_000)).rows == 1000


def test_npz_row_that_does_not_fit_in_memory_is_refused(tmp_path: Path) -> None:
    content = packed(a=np.zeros((1, 300 * MIB), np.int8))
    path, told = tmp_path / "file", Faults()
    path.write_bytes(content)
    settings = Settings(home=tmp_path)
    source = open_source({"file": str(path), "format": "npz"}, Declaration(), settings, tmp_path, told)
    with pytest.raises(BadInput, match="a row of the arrays has 314572800 bytes, expected at most 268435456"):
        convert(source, told, tmp_path / "stored", lambda done: None)


def test_joint_presence_is_counted_for_up_to_100_modalities(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for count in (100, 101):
        rows = [{f"m{n:03}": float(n) for n in np.flatnonzero(generator.random(count) < 0.7)} for _ in range(50)]
        rows[0] = {f"m{n:03}": 1.5 for n in range(count)}
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        statistics = converted(tmp_path, content, "jsonl").statistics
        assert statistics["modalities"]["m007"]["rows"] == sum("m007" in row for row in rows)
        if count == 100:
            assert statistics["together"]["m003"]["m007"] == sum("m003" in row and "m007" in row for row in rows)
            assert len(statistics["together"]) == 100
        else:
            assert "together" not in statistics
