"""The same data creates the same dataset in every format, and hostile files are refused."""

import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.datasets.declaration import Declaration
from service.shared import samples
from service.shared.errors import BadInput
from tests.hostile import corpus
from tests.service.files import Array, packed
from worker.ingest import nested_blocks
from worker.ingest.block import Source
from worker.ingest.convert import Converted, convert
from worker.ingest.faults import Faults
from worker.ingest.jsonl import JsonLinesSource
from worker.ingest.npz import NpzSource
from worker.ingest.parquet import ParquetSource

MAX_BYTES = 64 * 1024**2
Rows = dict[str, list[Any]]
FLOATS = st.floats(-1e6, 1e6, width=32)


def stored(path: Path, source: Callable[[Path, Declaration, int], Source], **declared: Any) -> Converted:
    declaration, faults = Declaration.model_validate(declared), Faults()
    opened = source(path, declaration, MAX_BYTES)
    return convert(opened, faults, path.with_name("stored"), lambda done: None)


def digest(path: Path, source: Callable[[Path, Declaration, int], Source], **declared: Any) -> str:
    stored(path, source, **declared)
    return hashlib.sha256(path.with_name("stored").read_bytes()).hexdigest()


def from_parquet(folder: Path, rows: Rows, types: dict[str, Any], **declared: Any) -> str:
    path = folder / "a.parquet"
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in rows.items()})
    pq.write_table(table, path, row_group_size=3)
    return digest(path, ParquetSource, **declared)


def from_json(folder: Path, rows: Rows, **declared: Any) -> str:
    path = folder / "a.jsonl"
    lines = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    path.write_text("".join(json.dumps({k: v for k, v in line.items() if v is not None}) + "\n" for line in lines))
    return digest(path, JsonLinesSource, **declared)


def from_npz(folder: Path, arrays: dict[str, Array], **declared: Any) -> str:
    path = folder / "a.npz"
    path.write_bytes(packed(**arrays))
    return digest(path, lambda path, said, most: NpzSource(path, said, most, folder, Faults()), **declared)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Array]:
    rows = draw(st.integers(1, 7))
    shape = draw(st.sampled_from([(), (1,), (2,), (3, 2), (2, 1, 2)]))
    present = draw(hnp.arrays(bool, rows))
    present[draw(st.integers(0, rows - 1))] = True
    return {
        "x": draw(hnp.arrays(np.float32, (rows, *shape), elements=FLOATS)),
        "x.present": present,
        "label": draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 9))),
        "flag": draw(hnp.arrays(bool, rows)),
    }


@settings(max_examples=60, deadline=None)
@given(arrays=tables(), kind=st.sampled_from([None, "static"]))
def test_static_datasets_are_equal_from_every_format(arrays: dict[str, Array], kind: str | None) -> None:
    rows: Rows = {name: arrays[name].tolist() for name in ("x", "label", "flag")}
    rows["x"] = [value if there else None for value, there in zip(rows["x"], arrays["x.present"], strict=True)]
    lists = pa.float32()
    for _ in arrays["x"].shape[1:]:
        lists = pa.list_(lists)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = from_npz(folder, arrays, kind=kind)
        assert from_parquet(folder, rows, {"x": lists}, kind=kind) == expected
        assert from_json(folder, rows, kind=kind) == expected


@st.composite
def sequences(draw: st.DrawFn) -> dict[str, Array]:
    rows, steps = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    shape = draw(st.sampled_from([(), (2,), (2, 3)]))
    lengths = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, steps)))
    lengths[draw(st.integers(0, rows - 1))] = steps
    present = draw(hnp.arrays(bool, (rows, steps)))
    present[np.argmax(lengths), 0] = True
    return {
        "x": draw(hnp.arrays(np.float32, (rows, steps, *shape), elements=FLOATS)),
        "x.present": present,
        "x.lengths": lengths,
        "mood": draw(hnp.arrays(np.int64, (rows, 3), elements=st.integers(0, 4))),
        "mood.lengths": draw(hnp.arrays(np.int64, rows, elements=st.integers(1, 3))),
    }


@settings(max_examples=60, deadline=None)
@given(arrays=sequences(), empty_is_null=st.booleans())
def test_sequences_are_equal_from_every_format(arrays: dict[str, Array], empty_is_null: bool) -> None:
    rows: Rows = {"x": [], "mood": []}
    for name, column in rows.items():
        there = arrays.get(f"{name}.present", np.ones(arrays[name].shape[:2], bool))
        for row, length in enumerate(arrays[f"{name}.lengths"]):
            steps = arrays[name][row, :length].tolist()
            column.append([step if there[row, place] else None for place, step in enumerate(steps)])
        column[:] = [None if empty_is_null and not steps else steps for steps in column]
    lists = pa.float32()
    for _ in arrays["x"].shape[2:]:
        lists = pa.list_(lists)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = from_npz(folder, arrays, kind="sequence")
        assert from_parquet(folder, rows, {"x": pa.large_list(lists)}, kind="sequence") == expected
        assert from_json(folder, rows, kind="sequence") == expected


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.none() | st.text("aäβ😀", min_size=1, max_size=4), min_size=1, max_size=9))
def test_texts_become_equal_categories_and_ids_from_every_format(words: list[str | None]) -> None:
    words.append("a")
    rows: Rows = {"x": [1.5] * len(words), "word": words, "who": words}
    with tempfile.TemporaryDirectory() as name:
        found = from_json(Path(name), rows, ids="who")
        assert from_parquet(Path(name), rows, {}, ids="who") == found
        encoded = {"word": pa.dictionary(pa.int8(), pa.string()), "who": pa.large_string()}
        assert from_parquet(Path(name), rows, encoded, ids="who") == found


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_vector_with_an_absent_element_is_absent_in_every_format(tmp_path: Path, kind: str) -> None:
    """pandas writes null for it, NumPy writes NaN."""
    x = np.arange(4 * 3 * 2.0).reshape(4, 3, 2)
    x[1, 0, 1] = x[3, 2, 0] = np.nan
    nulls = [[[None if np.isnan(n) else n for n in pair] for pair in row] for row in x.tolist()]
    nulls[1][0] = None if kind == "static" else [None, None]
    arrays = {"x": x, "whole": np.arange(4 * 3.0).reshape(4, 3)}
    rows: Rows = {"x": nulls, "whole": arrays["whole"].tolist()}
    expected = from_npz(tmp_path, arrays, kind=kind, nan="missing")
    assert from_parquet(tmp_path, rows, {}, kind=kind, nan="missing") == expected
    assert from_json(tmp_path, rows, kind=kind, nan="missing") == expected
    converted = stored(tmp_path / "a.jsonl", JsonLinesSource, kind=kind, nan="missing")
    assert converted.statistics["modalities"]["x"]["present"] == (2 if kind == "static" else 10)
    assert converted.statistics["modalities"]["x"]["nan"] == 2
    found = samples.open(tmp_path / "stored")
    np.testing.assert_array_equal(found.values["x"][0], x[0] if kind == "static" else x[0, 0])


def test_fault_names_the_place_of_an_absent_element_unless_nan_is_missing(tmp_path: Path) -> None:
    rows: Rows = {"x": [[1.0, 2.0], [3.0, None]]}
    for write in (lambda: from_parquet(tmp_path, rows, {}), lambda: from_json(tmp_path, rows)):
        with pytest.raises(BadInput) as caught:
            write()
        (fault,) = caught.value.faults
        assert (fault.pointer, fault.code) == ("/x/1/1", "null_inside")
        assert fault.detail.endswith("only a whole row may be null, unless nan is declared missing")


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_result_does_not_depend_on_the_block_size(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 4, 3)).astype(np.float32).tolist()
    rows: Rows = {"x": [None if row % 5 == 1 else value for row, value in enumerate(vectors)]}
    rows["word"] = [["a", None, "bc"] if kind == "sequence" else "abc"[row % 3] for row in range(20)]
    types = {"x": pa.list_(pa.list_(pa.float32(), 3))}
    whole = from_parquet(tmp_path, rows, types, kind=kind)
    monkeypatch.setattr(nested_blocks, "BLOCK_BYTES", 100)
    assert from_parquet(tmp_path, rows, types, kind=kind) == whole
    assert from_json(tmp_path, rows, kind=kind) == whole


# Flipped bytes of these may fall where no reader looks, and the type that asks to be unpickled is a plain list beside.
MAY_BE_READ = ("parquet: footer flipped", "parquet: pages flipped", "parquet: a pickled type")
HOSTILE = [(name, content) for name, content in corpus().items() if not name.startswith("npz")]


@pytest.mark.parametrize(("name", "content"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_hostile_file_is_refused_quickly_with_a_reason(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for format, source in (("parquet", ParquetSource), ("json", JsonLinesSource)):
        if ":" in name and not name.startswith(format):
            continue
        told = ""
        try:
            stored(path, source)
        except BadInput as refused:
            told = refused.detail
        assert told or name.startswith(MAY_BE_READ)
        assert len(told.encode()) < 1000
        assert not list(tmp_path.glob("stored.*"))
    assert time.monotonic() - began < 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
