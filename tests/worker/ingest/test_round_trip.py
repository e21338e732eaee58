"""A download makes the same dataset again, byte for byte, without a declaration."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from service.datasets import exported_schema
from service.datasets.declaration import Declaration
from service.datasets.export import jsonl, npz, parquet, row_chunks
from service.shared import samples
from service.shared.errors import BadInput
from service.shared.samples import Samples
from tests.service.files import Array, packed
from worker.ingest.block import Source
from worker.ingest.convert import Converted, convert
from worker.ingest.faults import Faults
from worker.ingest.jsonl import JsonLinesSource
from worker.ingest.npz import NpzSource
from worker.ingest.parquet import ParquetSource

ROWS, STEPS = 24, 5
MAX_BYTES = 10**8
MODALITIES: dict[str, dict[str, Any]] = {
    "gauss": {"units": "mmHg"},
    "laplace": {"likelihood": "laplace"},
    "flag": {},
    "counts": {"dtype": "float32", "likelihood": "poisson"},
    "reads": {"likelihood": "negative_binomial", "dtype": "float32"},
    "image": {"likelihood": "bernoulli"},
    "label": {"categories": 9},
    "mood": {"category_names": ["sad", "angry", "calm", "never"]},
    "grade": {"category_names": [7, 3, 9]},
}


def arrays(lead: tuple[int, ...]) -> dict[str, Array]:
    """Values of every likelihood, whole and with fractions, of several shapes; a third of some are missing."""
    generator = np.random.default_rng(1)
    found: dict[str, Array] = {
        "gauss": generator.normal(size=lead).round(),  # whole numbers that are not counts
        "laplace": generator.normal(size=(*lead, 3)) * 1e-3,
        "flag": generator.random(lead) < 0.5,
        "counts": generator.poisson(3, lead),
        "reads": generator.poisson(50, (*lead, 2, 2)),
        "image": generator.integers(0, 2, (*lead, 1, 3)),
        "label": generator.integers(0, 3, lead),
        "mood": generator.integers(0, 3, lead),
        "grade": np.array([3, 7, 9])[generator.integers(0, 3, lead)],
    }
    for name in ("laplace", "counts", "label", "mood", "grade", "image"):
        found[f"{name}.present"] = generator.random(lead) < 0.7
    return found


def riding() -> dict[str, Array]:
    return {
        "who": np.array([f"row {row} ä" for row in range(ROWS)]),
        "group": np.array(["a", "", "b"] * (ROWS // 3)),
        "fold": np.array(["train", "test", "valid"] * (ROWS // 3)),
    }


def made(folder: Path, content: dict[str, Array], **declared: Any) -> Samples:
    source = opened("npz", folder, packed(**content), **declared)
    stored(source, folder / "first")
    return samples.open(folder / "first")


def stored(source: Source, path: Path) -> Converted:
    return convert(source, Faults(), path, lambda done: None)


def opened(format: str, folder: Path, content: bytes, **declared: Any) -> Source:
    path, declaration = folder / "upload", Declaration.model_validate(declared)
    path.write_bytes(content)
    if format == "npz":
        return NpzSource(path, declaration, MAX_BYTES, folder, Faults())
    return {"parquet": ParquetSource, "jsonl": JsonLinesSource}[format](path, declaration, MAX_BYTES)


EXPORTS: dict[str, Callable[[Samples], Iterator[bytes]]] = {
    "npz": npz.write,
    "parquet": parquet.write,
    "jsonl": jsonl.write,
}


def downloaded(format: str, found: Samples) -> bytes:
    return b"".join(EXPORTS[format](found))


@pytest.mark.parametrize("format", EXPORTS)
@pytest.mark.parametrize("rides", [False, True], ids=["alone", "riding"])
@pytest.mark.parametrize("kind", ["static", "sequence", "sequence of one length", "sequence of known steps"])
def test_download_makes_the_same_dataset(
    tmp_path: Path, kind: str, rides: bool, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead = (ROWS,) if kind == "static" else (ROWS, STEPS)
    content = arrays(lead)
    declared: dict[str, Any] = {"kind": kind.split()[0], "modalities": MODALITIES}
    if kind.startswith("sequence") and "one length" not in kind:
        lengths = np.random.default_rng(2).integers(1, STEPS + 1, ROWS)
        content |= {f"{name}.lengths": lengths for name in MODALITIES}
    if "known" in kind:
        declared["step_seconds"] = 0.25
    if rides:
        content |= riding()
        declared |= {"ids": "who", "labels": "group", "split": {"column": "fold"}}
    first = made(tmp_path, content, **declared)
    before = (tmp_path / "first").read_bytes()
    for piece_bytes in (row_chunks.PIECE_BYTES, 500):
        monkeypatch.setattr(row_chunks.pieces, "__defaults__", (piece_bytes,))
        source = opened(format, tmp_path, downloaded(format, first))
        again = stored(source, tmp_path / "second")
        assert again.schema == first.schema
        assert (tmp_path / "second").read_bytes() == before
        assert "own_schema" in [warning.code for warning in again.warnings]


@pytest.mark.parametrize("format", EXPORTS)
def test_downloaded_values_equal_the_uploaded_values(tmp_path: Path, format: str) -> None:
    """Categories are downloaded by their names, texts or whole numbers, and not by their codes."""
    first = made(tmp_path, arrays((ROWS,)), modalities=MODALITIES)
    content = downloaded(format, first)
    if format == "npz":
        with np.load(io.BytesIO(content)) as found:
            grade, mood, names = found["grade"], found["mood"], (0, 1, 2)
    elif format == "parquet":
        table = pq.read_table(io.BytesIO(content))
        grade, mood, names = table["grade"].to_pylist(), table["mood"].to_pylist(), ("sad", "angry", "calm")
    else:
        rows = [json.loads(line) for line in content.splitlines()]
        grade, mood, names = [row["grade"] for row in rows], [row["mood"] for row in rows], ("sad", "angry", "calm")
    there = np.flatnonzero(arrays((ROWS,))["grade.present"])
    assert [grade[row] for row in there] == arrays((ROWS,))["grade"][there].tolist()
    there = np.flatnonzero(arrays((ROWS,))["mood.present"])
    assert [mood[row] for row in there] == [names[code] for code in arrays((ROWS,))["mood"][there]]


@pytest.mark.parametrize("format", EXPORTS)
def test_declaration_overrides_the_schema_in_the_file(tmp_path: Path, format: str) -> None:
    first = made(tmp_path, {**arrays((ROWS,)), **riding()}, modalities=MODALITIES, ids="who", ignore=["group", "fold"])
    declared = {
        "modalities": {
            "counts": {"likelihood": "negative_binomial", "dtype": "float32"},
            "label": {"units": "class"},
            "height": {"column": "gauss"},
        },
        "labels": "row_id",
        "ignore": ["image"],
    }
    again = stored(opened(format, tmp_path, downloaded(format, first), **declared), tmp_path / "second").schema
    found = {modality.name: modality for modality in again.modalities}
    assert sorted(found) == ["counts", "flag", "grade", "height", "label", "laplace", "mood", "reads"]
    assert found["counts"].likelihood == "negative_binomial"
    assert (found["label"].categories, found["label"].units) == (9, "class")
    assert (found["height"].likelihood, found["height"].units) == ("gaussian", None)
    second = samples.open(tmp_path / "second")
    assert (second.ids, next(iter(second.labels or ()))) == (None, "row 0 ä")


def test_download_with_rows_and_columns_removed_can_be_uploaded(tmp_path: Path) -> None:
    first = made(tmp_path, arrays((ROWS,)), modalities=MODALITIES)
    table = pq.read_table(io.BytesIO(downloaded("parquet", first))).drop_columns(["image", "flag"]).slice(3, 9)
    content = io.BytesIO()
    pq.write_table(table, content)
    again = stored(opened("parquet", tmp_path, content.getvalue()), tmp_path / "second")
    assert again.rows == 9
    found = {modality.name: modality for modality in again.schema.modalities}
    assert sorted(found) == sorted({*MODALITIES} - {"image", "flag"})
    assert (found["mood"].category_names, found["label"].categories) == (("sad", "angry", "calm", "never"), 9)


def test_numpy_reads_a_download_and_writes_it_again(tmp_path: Path) -> None:
    first = made(tmp_path, arrays((ROWS,)), modalities=MODALITIES)
    with np.load(io.BytesIO(downloaded("npz", first))) as read:
        content = packed(**dict(read))
    stored(opened("npz", tmp_path, content), tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == (tmp_path / "first").read_bytes()


@pytest.mark.parametrize(
    ("own", "place"),
    [
        (b"{", ""),
        (b"[1]", ""),
        (b'{"modalities": {"x": {"dtype": "float64"}}}', "/modalities/x/dtype"),
        (b'{"colour": "red"}', "/colour"),
    ],
    ids=str,
)
def test_fault_names_the_place_of_an_invalid_schema_in_the_file(tmp_path: Path, own: bytes, place: str) -> None:
    content = {"x": np.array([1.5, 2.5]), exported_schema.KEY: np.array(own)}
    with pytest.raises(BadInput) as caught:
        opened("npz", tmp_path, packed(**content))
    (found,) = caught.value.faults
    assert (found.pointer, found.code) == (f"/{exported_schema.KEY}{place}", "bad_own_schema")
    content[exported_schema.KEY] = np.array([1, 2])
    with pytest.raises(BadInput, match="expected one text of bytes"):
        opened("npz", tmp_path, packed(**content))


def test_fault_names_texts_outside_the_declared_category_names(tmp_path: Path) -> None:
    content = b'{"mood": "calm"}\n{"mood": "glad"}\n'
    with pytest.raises(BadInput, match="'mood' holds 'glad', which is none of the declared category_names"):
        opened("jsonl", tmp_path, content, modalities={"mood": {"category_names": ["sad", "calm"]}})


def test_fault_names_numbers_outside_the_declared_category_names(tmp_path: Path) -> None:
    content = b'{"grade": 3}\n{"grade": 4}\n'
    source = opened("jsonl", tmp_path, content, modalities={"grade": {"category_names": [9, 3]}})
    with pytest.raises(BadInput, match="'grade' is 4 at row 1, expected one of the declared category_names"):
        stored(source, tmp_path / "second")


@pytest.mark.parametrize("format", EXPORTS)
def test_download_of_an_inferred_dataset_makes_the_same_dataset(tmp_path: Path, format: str) -> None:
    """The first file is undeclared too: whole numbers with few and with many values, texts, booleans."""
    generator = np.random.default_rng(3)
    columns: dict[str, list[Any]] = {
        "grade": generator.choice([7, 3, 9], 60).tolist(),
        "year": generator.choice([2007, 2008, 2009], 60).tolist(),
        "count": generator.poisson(200, 60).tolist(),
        "word": generator.choice(["b", "a", "ä"], 60).tolist(),
        "flag": (generator.random(60) < 0.5).tolist(),
        "mean": [float(number) for number in generator.integers(0, 5, 60)],
        "split": generator.choice(["training", "test"], 60).tolist(),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for row in rows[::7]:
        row["grade"] = row["word"] = None
    source = opened("jsonl", tmp_path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    first = stored(source, tmp_path / "first")
    content = downloaded(format, samples.open(tmp_path / "first"))
    again = stored(opened(format, tmp_path, content), tmp_path / "second")
    assert again.schema == first.schema
    assert (tmp_path / "second").read_bytes() == (tmp_path / "first").read_bytes()
