"""Every format accepts the same values: categories as floats, booleans, decimals, and columns without values."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.datasets.declaration import Declaration
from service.shared import samples
from service.shared.errors import BadInput, Fault
from service.shared.samples import Samples
from tests.service.files import packed
from worker.ingest.block import Source
from worker.ingest.convert import convert
from worker.ingest.faults import Faults
from worker.ingest.jsonl import JsonLinesSource
from worker.ingest.npz import NpzSource
from worker.ingest.parquet import ParquetSource

Columns = dict[str, list[Any]]
MAX_BYTES = 10**8
X = [0.5, 1.5, 2.5, 3.5]


def from_npz(path: Path, columns: Columns, declaration: Declaration) -> Source:
    """Null becomes a false mask, since NumPy has no null."""
    arrays = {}
    for name, values in columns.items():
        filled = next((value for value in values if value is not None), 0.0)
        arrays[name] = np.array([filled if value is None else value for value in values])
        arrays[f"{name}.present"] = np.array([value is not None for value in values])
    path.write_bytes(packed(**arrays))
    return NpzSource(path, declaration, MAX_BYTES, path.parent, Faults())


def from_parquet(path: Path, columns: Columns, declaration: Declaration) -> Source:
    pq.write_table(pa.table(columns), path)
    return ParquetSource(path, declaration, MAX_BYTES)


def from_jsonl(path: Path, columns: Columns, declaration: Declaration) -> Source:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonLinesSource(path, declaration, MAX_BYTES)


Reader = Callable[[Path, Columns, Declaration], Source]
FORMATS = pytest.mark.parametrize("source", [from_npz, from_parquet, from_jsonl])


def converted(source: Reader, folder: Path, columns: Columns, **declared: Any) -> Samples:
    opened = source(folder / "upload", columns, Declaration.model_validate(declared))
    convert(opened, Faults(), folder / "stored", lambda done: None)
    return samples.open(folder / "stored")


def faults(source: Reader, folder: Path, columns: Columns, **declared: Any) -> list[Fault]:
    with pytest.raises(BadInput) as caught:
        converted(source, folder, columns, **declared)
    return list(caught.value.faults)


@FORMATS
@pytest.mark.parametrize("label", [{"categories": 3}, {"dtype": "int64"}, {"likelihood": "categorical"}], ids=str)
def test_whole_floats_are_categories_when_declared(source: Reader, tmp_path: Path, label: dict[str, Any]) -> None:
    """pandas stores integer labels as doubles if one of them is missing."""
    columns = {"x": X, "label": [2.0, None, 0.0, 1.0]}
    found = converted(source, tmp_path, columns, modalities={"label": label})
    described = found.schema.modalities[0]
    assert (described.dtype, described.categories, described.likelihood) == ("int64", 3, "categorical")
    assert found.values["label"].tolist() == [2, 0, 0, 1]
    assert found.present["label"].tolist() == [True, False, True, True]


@FORMATS
@pytest.mark.parametrize(("value", "said"), [(1.5, "1.5"), (3.0, "3.0"), (-1.0, "-1.0"), (1e300, "1e+300")])
def test_fault_names_a_float_that_is_not_a_category(source: Reader, tmp_path: Path, value: float, said: str) -> None:
    columns = {"x": X, "label": [2.0, None, value, 1.0]}
    (found,) = faults(source, tmp_path, columns, modalities={"label": {"categories": 3}})
    assert (found.pointer, found.code) == ("/label/2", "bad_value")
    assert found.detail == f"modality 'label' is {said} at row 2, expected a category from 0 to 2"


@pytest.mark.parametrize("source", [from_npz, from_parquet])
def test_nan_among_categories_is_missing_when_declared(source: Reader, tmp_path: Path) -> None:
    columns = {"x": X, "label": [2.0, float("nan"), 0.0, 1.0]}
    label = {"label": {"categories": 3}}
    found = converted(source, tmp_path, columns, modalities=label, nan="missing")
    assert found.present["label"].tolist() == [True, False, True, True]
    assert [fault.pointer for fault in faults(source, tmp_path, columns, modalities=label)] == ["/label/1"]


@FORMATS
def test_booleans_are_zero_and_one(source: Reader, tmp_path: Path) -> None:
    columns = {"x": X, "flag": [True, None, False, True], "kind": [True, False, False, True]}
    found = converted(source, tmp_path, columns, modalities={"kind": {"categories": 2}})
    assert [(m.name, m.likelihood) for m in found.schema.modalities] == [
        ("flag", "bernoulli"),
        ("kind", "categorical"),
        ("x", "gaussian"),
    ]
    assert found.values["flag"].tolist() == [1, 0, 0, 1]
    assert found.values["kind"].tolist() == [1, 0, 0, 1]


@FORMATS
def test_modality_without_values_is_refused(source: Reader, tmp_path: Path) -> None:
    columns = {"x": X, "empty": [None] * 4}
    for declared in ({}, {"modalities": {"empty": {"dtype": "float32", "shape": []}}}):
        (found,) = faults(source, tmp_path, columns, **declared)
        assert (found.pointer, found.code) == ("/empty", "no_value")
        assert found.detail == "no row of column 'empty' has a value, expected at least one; ignore it"
    assert converted(source, tmp_path, columns, ignore=["empty"]).schema.names() == ["x"]


@pytest.mark.parametrize(
    "type", [pa.null(), pa.string(), pa.int64(), pa.bool_(), pa.list_(pa.float32(), 2), pa.list_(pa.null())]
)
def test_column_of_nulls_is_refused_for_every_type(tmp_path: Path, type: Any) -> None:
    pq.write_table(pa.table({"x": X, "empty": pa.nulls(4, type)}), tmp_path / "upload")
    with pytest.raises(BadInput, match="no row of column 'empty' has a value"):
        convert(
            ParquetSource(tmp_path / "upload", Declaration(), MAX_BYTES),
            Faults(),
            tmp_path / "stored",
            lambda done: None,
        )


def test_sequences_with_no_step_of_a_modality_are_refused(tmp_path: Path) -> None:
    columns: Columns = {"x": [[1.5], [2.5, 3.5]], "y": [[None], [None, None]]}
    for source in (from_jsonl, from_parquet):
        table = columns if source is from_jsonl else columns | {"y": pa.array(columns["y"], pa.list_(pa.float32()))}
        (found,) = faults(source, tmp_path, table)
        assert (found.pointer, found.code) == ("/y", "no_value")


def test_modality_of_only_missing_nan_is_refused(tmp_path: Path) -> None:
    (found,) = faults(from_npz, tmp_path, {"x": X, "y": [float("nan")] * 4}, nan="missing")
    assert (found.pointer, found.code) == ("/y", "no_value")


@pytest.mark.parametrize("type", [pa.decimal32(5, 2), pa.decimal64(5, 2), pa.decimal128(20, 2), pa.decimal256(60, 2)])
def test_decimals_are_rounded_when_declared(tmp_path: Path, type: Any) -> None:
    price = pa.array([Decimal("1.25"), None, Decimal("-3.10"), Decimal("0")], type)
    columns = {"x": X, "price": price, "prices": pa.array([[p, p] for p in price.to_pylist()[2:]] * 2, pa.list_(type))}
    found = faults(from_parquet, tmp_path, columns, kind="static")
    assert [(fault.pointer, fault.code) for fault in found] == [("/price", "decimal"), ("/prices", "decimal")]
    assert "declare dtype float32" in found[0].detail
    numbers = {"dtype": "float32"}
    stored = converted(from_parquet, tmp_path, columns, kind="static", modalities={"price": numbers, "prices": numbers})
    np.testing.assert_array_equal(stored.values["price"], np.float32([1.25, 0, -3.1, 0]))
    assert stored.present["price"].tolist() == [True, False, True, True]
    np.testing.assert_array_equal(stored.values["prices"][0], np.float32([-3.1, -3.1]))


def test_decimals_without_a_fraction_are_categories_when_declared(tmp_path: Path) -> None:
    columns = {"x": X, "grade": pa.array([Decimal(2), None, Decimal(0), Decimal(1)], pa.decimal128(4, 0))}
    found = converted(from_parquet, tmp_path, columns, modalities={"grade": {"categories": 3}})
    assert found.values["grade"].tolist() == [2, 0, 0, 1]


def test_byte_order_mark_at_the_beginning_is_read(tmp_path: Path) -> None:
    """Notepad and PowerShell write a byte order mark."""
    (tmp_path / "upload").write_text("\ufeff" + '{"x": 1.5}\n{"x": 2.5}\n')
    source = JsonLinesSource(tmp_path / "upload", Declaration(), MAX_BYTES)
    convert(source, Faults(), tmp_path / "stored", lambda done: None)
    assert samples.open(tmp_path / "stored").values["x"].tolist() == [1.5, 2.5]
    assert source.fraction() == 1


def test_mask_of_steps_makes_vectors_a_sequence(tmp_path: Path) -> None:
    mask = np.array([[1, 0, 1], [1, 1, 1]], bool)
    path = tmp_path / "upload"
    path.write_bytes(packed(**{"x": np.arange(12.0).reshape(2, 3, 2), "x.present": mask}))
    convert(
        NpzSource(path, Declaration(), MAX_BYTES, tmp_path, Faults()), Faults(), tmp_path / "stored", lambda done: None
    )
    found = samples.open(tmp_path / "stored")
    assert (found.schema.kind, found.schema.modalities[0].shape) == ("sequence", (2,))
    assert found.present["x"].tolist() == mask.reshape(-1).tolist()
