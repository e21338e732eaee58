"""Undeclared columns are read in the same way in every format, with warnings."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.shared import samples
from service.shared.errors import BadInput
from service.shared.samples import ModalitySchema, Samples
from tests.service.files import Array
from tests.worker.ingest.test_both_formats import Rows, from_json, from_npz, from_parquet, stored
from worker.ingest import npz
from worker.ingest.convert import Converted
from worker.ingest.jsonl import JsonLinesSource
from worker.ingest.parquet import ParquetSource

X = np.linspace(-1, 1, 60).astype(np.float32)
GENERATOR = np.random.default_rng(0)
COUNTS = GENERATOR.negative_binomial(1, 0.002, 60)


def read(folder: Path, arrays: dict[str, Array], **declared: Any) -> tuple[Converted, Samples]:
    """The dataset that all three formats make of these columns."""
    expected = from_npz(folder, arrays, **declared)
    rows: Rows = {name: array.tolist() for name, array in arrays.items()}
    assert from_parquet(folder, rows, {"x": pa.float32()}, **declared) == expected
    assert from_json(folder, rows, **declared) == expected
    return of_json(folder, **declared)


def of_json(folder: Path, **declared: Any) -> tuple[Converted, Samples]:
    found = stored(folder / "a.jsonl", JsonLinesSource, **declared)
    return found, samples.open(folder / "stored")


def modality(found: Converted, name: str) -> ModalitySchema:
    return next(one for one in found.schema.modalities if one.name == name)


def warnings(found: Converted) -> list[tuple[str, str | None]]:
    return [(warning.code, warning.column) for warning in found.warnings]


def test_few_whole_numbers_are_categories_of_the_values_that_occur(tmp_path: Path) -> None:
    years = np.array([2009, 2007, 2010] * 20)
    found, data = read(tmp_path, {"x": X, "year": years})
    year = modality(found, "year")
    assert (year.dtype, year.categories, year.category_names) == ("int64", 3, (2007, 2009, 2010))
    np.testing.assert_array_equal(data.values["year"], [1, 0, 2] * 20)
    assert found.statistics["modalities"]["year"]["counts"] == [20, 20, 20]
    assert warnings(found) == [("inferred_categories", "year")]
    assert "holds 3 different whole numbers (2007, 2009, 2010), which were read as" in found.warnings[0].detail


def test_whole_numbers_from_0_on_are_categories_without_names(tmp_path: Path) -> None:
    found, data = read(tmp_path, {"x": X, "label": np.arange(60) % 10})
    label = modality(found, "label")
    assert (label.categories, label.category_names, label.likelihood) == (10, None, "categorical")
    np.testing.assert_array_equal(data.values["label"], np.arange(60) % 10)


@pytest.mark.parametrize(
    ("values", "likelihood"),
    [(COUNTS, "negative_binomial"), (GENERATOR.poisson(40, 60) - 60, "gaussian"), (1950 + COUNTS % 70, "gaussian")],
    ids=["counts", "below 0", "years"],
)
def test_many_whole_numbers_are_numbers(tmp_path: Path, values: Array, likelihood: str) -> None:
    found, data = read(tmp_path, {"x": X, "n": values})
    assert (modality(found, "n").dtype, modality(found, "n").likelihood) == ("float32", likelihood)
    np.testing.assert_array_equal(data.values["n"], values)
    assert ("inferred_numbers", "n") in warnings(found)
    assert '{"n": {"dtype": "int64"}}' in next(w.detail for w in found.warnings if w.code == "inferred_numbers")


def test_whole_numbers_beyond_float32_give_a_warning(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"x": X, "stamp": 1_700_000_000 + COUNTS})
    assert ("inexact", "stamp") in warnings(found)


def test_row_numbers_are_left_out_with_advice_to_declare_them_as_ids(tmp_path: Path) -> None:
    shuffled = GENERATOR.permutation(60) + 1
    found, _ = read(tmp_path, {"x": X, "patient": shuffled})
    assert found.schema.names() == ["x"]
    assert warnings(found) == [("looks_like_ids", "patient")]
    assert 'declare "ids": "patient"' in found.warnings[0].detail
    found, _ = read(tmp_path, {"x": X, "patient": shuffled}, modalities={"patient": {}})
    assert modality(found, "patient").dtype == "float32"


def test_numbers_that_all_differ_may_be_ids(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"x": X, "income": 1000 + 7 * GENERATOR.permutation(60)})
    assert found.schema.names() == ["income", "x"]
    assert warnings(found) == [("inferred_numbers", "income"), ("looks_like_ids", "income")]


def test_constant_whole_number_is_left_out_unless_declared(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"x": X, "site": np.full(60, 3)})
    assert (found.schema.names(), warnings(found)) == (["x"], [("constant", "site")])
    detail = "column 'site' holds no other value than 3 and was left out; to keep it, declare modalities: "
    assert found.warnings[0].detail == detail + '{"site": {"dtype": "float32"}}'
    for said in ({}, {"dtype": "float32"}):
        found, _ = read(tmp_path, {"x": X, "site": np.full(60, 3)}, modalities={"site": said})
        assert (modality(found, "site").dtype, warnings(found)) == ("float32", [])


def test_single_whole_number_is_read_as_a_number(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"x": X[:1], "site": np.array([3])})
    assert (modality(found, "site").dtype, warnings(found)) == ("float32", [])


@pytest.mark.parametrize("values", [np.full(60, 2.5), np.full(60, True), np.zeros((60, 2))])
def test_constant_numbers_are_kept_with_a_warning(tmp_path: Path, values: Array) -> None:
    found, _ = read(tmp_path, {"x": X, "same": values})
    assert (found.schema.names(), warnings(found)) == (["same", "x"], [("constant", "same")])
    found, _ = read(tmp_path, {"x": X, "same": values}, modalities={"same": {}})
    assert warnings(found) == []


def test_declared_categories_without_a_count_are_the_values_that_occur(tmp_path: Path) -> None:
    codes = np.array([100 + 10 * (row % 30) for row in range(60)])
    for said in ({"dtype": "int64"}, {"likelihood": "categorical"}):
        found, data = read(tmp_path, {"x": X, "code": codes}, modalities={"code": said})
        code = modality(found, "code")
        assert (code.categories, code.category_names) == (30, tuple(range(100, 400, 10)))
        np.testing.assert_array_equal(data.values["code"], np.arange(60) % 30)
        assert warnings(found) == []


def test_declared_categories_are_counted_from_0(tmp_path: Path) -> None:
    found, data = read(tmp_path, {"x": X, "year": np.array([7, 9] * 30)}, modalities={"year": {"categories": 12}})
    assert (modality(found, "year").categories, modality(found, "year").category_names) == (12, None)
    np.testing.assert_array_equal(data.values["year"], [7, 9] * 30)


def test_declared_numbers_are_numbers(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"x": X, "year": np.array([7, 9] * 30)}, modalities={"year": {"dtype": "float32"}})
    assert (modality(found, "year").dtype, warnings(found)) == ("float32", [])


def test_absent_values_are_no_categories(tmp_path: Path) -> None:
    arrays = {"x": X, "year": np.array([2007, 2008, -1] * 20), "year.present": np.array([1, 1, 0] * 20, bool)}
    expected = from_npz(tmp_path, arrays)
    years = [value if value > 0 else None for value in arrays["year"].tolist()]
    assert from_json(tmp_path, {"x": X.tolist(), "year": years}) == expected
    assert from_parquet(tmp_path, {"x": X.tolist(), "year": years}, {"x": pa.float32()}) == expected
    assert modality(of_json(tmp_path)[0], "year").category_names == (2007, 2008)


@pytest.mark.parametrize("block_bytes", [64, 2**20])
def test_sequences_are_inferred_like_single_values(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "BLOCK_BYTES", block_bytes)
    lengths = np.array([2, 3] * 15)
    arrays = {
        "mood": np.arange(90).reshape(30, 3) % 4 * 5 + 5,
        "clicks": GENERATOR.negative_binomial(1, 0.01, (30, 3)),
        "mood.lengths": lengths,
        "clicks.lengths": lengths,
    }
    rows: Rows = {
        name: [row[:length].tolist() for row, length in zip(arrays[name], lengths, strict=True)]
        for name in ("mood", "clicks")
    }
    expected = from_npz(tmp_path, arrays)
    assert from_json(tmp_path, rows) == expected
    assert from_parquet(tmp_path, rows, {}) == expected
    found, _ = of_json(tmp_path)
    assert modality(found, "mood").category_names == (5, 10, 15, 20)
    assert modality(found, "clicks").likelihood == "negative_binomial"


def of_texts(folder: Path, words: list[Any], **declared: Any) -> Converted:
    rows: Rows = {"x": X.tolist(), "word": words}
    assert from_parquet(folder, rows, {"x": pa.float32()}, **declared) == from_json(folder, rows, **declared)
    return of_json(folder, **declared)[0]


def test_text_that_differs_in_every_row_is_left_out_unless_declared(tmp_path: Path) -> None:
    words = [f"patient {row}" for row in range(60)]
    found = of_texts(tmp_path, words)
    assert (found.schema.names(), warnings(found)) == (["x"], [("looks_like_ids", "word")])
    declared = of_texts(tmp_path, words, modalities={"word": {}})
    assert (modality(declared, "word").categories, warnings(declared)) == (60, [])


def test_many_dates_are_left_out_and_few_are_categories_with_a_warning(tmp_path: Path) -> None:
    found = of_texts(tmp_path, [f"2026-01-{1 + row % 30:02}" for row in range(60)])
    assert (found.schema.names(), warnings(found)) == (["x"], [("looks_like_dates", "word")])
    assert "days since" in found.warnings[0].detail
    found = of_texts(tmp_path, [f"2026-01-{1 + row % 3:02}T10:30:00Z" for row in range(60)])
    assert (modality(found, "word").categories, warnings(found)) == (3, [("looks_like_dates", "word")])


def test_texts_that_rarely_repeat_give_a_warning(tmp_path: Path) -> None:
    found = of_texts(tmp_path, [f"word {row % 40}" for row in range(60)])
    assert (modality(found, "word").categories, warnings(found)) == (40, [("many_categories", "word")])


def test_repeated_texts_are_categories(tmp_path: Path) -> None:
    found = of_texts(tmp_path, ["a", "b", None] * 20)
    assert (modality(found, "word").category_names, warnings(found)) == (("a", "b"), [])


def test_constant_text_is_left_out_unless_declared(tmp_path: Path) -> None:
    found = of_texts(tmp_path, ["a", None] * 30)
    assert (found.schema.names(), warnings(found)) == (["x"], [("constant", "word")])
    assert 'declare modalities: {"word": {"dtype": "int64"}}' in found.warnings[0].detail
    found = of_texts(tmp_path, ["a", None] * 30, modalities={"word": {"dtype": "int64"}})
    assert (modality(found, "word").category_names, warnings(found)) == (("a",), [])


def test_parquet_column_of_dates_is_left_out(tmp_path: Path) -> None:
    day = datetime.date(2026, 1, 1)
    table = pa.table({"x": X, "day": [day] * 60, "at": pa.array([0] * 60, pa.timestamp("ns"))})
    pq.write_table(table, tmp_path / "a.parquet")
    found = stored(tmp_path / "a.parquet", ParquetSource)
    assert found.schema.names() == ["x"]
    assert warnings(found) == [("looks_like_dates", "day"), ("looks_like_dates", "at")]


def test_file_of_only_ids_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        from_json(tmp_path, {"n": list(range(60))})
    (fault,) = caught.value.faults
    assert (fault.pointer, fault.code) == ("/n", "looks_like_ids")


def test_columns_with_the_names_of_downloads_have_their_roles(tmp_path: Path) -> None:
    rows: Rows = {
        "x": X.tolist(),
        "row_id": [f"p{row}" for row in range(60)],
        "row_label": [row % 2 for row in range(60)],
        "split": ["training", "test", "Validation"] * 20,
    }
    arrays = {name: np.array(column) for name, column in rows.items()}
    expected = from_npz(tmp_path, arrays | {"x": X})
    assert from_json(tmp_path, rows) == expected
    assert from_parquet(tmp_path, rows, {"x": pa.float32()}) == expected
    found, data = of_json(tmp_path)
    assert found.schema.names() == ["x"]
    assert found.statistics["splits"] == {"training": 20, "validation": 20, "test": 20}
    assert list(data.ids or ())[:2] == ["p0", "p1"]
    assert list(data.labels or ())[:2] == ["0", "1"]
    roles = [("read_as_ids", "row_id"), ("read_as_labels", "row_label"), ("read_as_split", "split")]
    assert warnings(found) == roles


def test_numeric_column_split_is_data_with_advice_to_declare_it(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"x": X, "split": np.array([0, 1, 2] * 20)})
    assert found.schema.names() == ["split", "x"]
    assert warnings(found) == [("inferred_categories", "split"), ("perhaps_split", "split")]
    assert 'declare "split": {"column": "split"}' in found.warnings[1].detail
    found, _ = read(tmp_path, {"x": X, "split": np.array([0, 1, 2] * 20)}, split={"column": "split"})
    assert (found.schema.names(), found.statistics["splits"]["test"], warnings(found)) == (["x"], 20, [])
    rows: Rows = {"x": X.tolist(), "split": ["0", "2"] * 30}
    assert from_json(tmp_path, rows) == from_parquet(tmp_path, rows, {"x": pa.float32()})
    assert warnings(of_json(tmp_path)[0]) == [("perhaps_split", "split")]
    found, _ = read(tmp_path, {"x": X, "split": np.array([0, 1, 3] * 20)})
    assert warnings(found) == [("inferred_categories", "split")]


def test_column_split_with_other_texts_or_another_declaration_is_not_a_split(tmp_path: Path) -> None:
    rows: Rows = {"x": X.tolist(), "split": ["left", "right"] * 30}
    assert from_json(tmp_path, rows) == from_parquet(tmp_path, rows, {"x": pa.float32()})
    assert of_json(tmp_path)[0].schema.names() == ["split", "x"]
    rows["split"] = ["train", "test"] * 30
    declared = {"modalities": {"split": {}}}
    assert from_json(tmp_path, rows, **declared) == from_parquet(tmp_path, rows, {"x": pa.float32()}, **declared)
    assert of_json(tmp_path, **declared)[0].schema.names() == ["split", "x"]


def test_floats_that_may_be_categories_give_a_warning(tmp_path: Path) -> None:
    """pandas stores whole numbers beside a null as floats."""
    found, _ = read(tmp_path, {"x": X, "label": np.array([0.0, 1.0, 2.0] * 20)})
    assert (modality(found, "label").dtype, warnings(found)) == ("float32", [("perhaps_categories", "label")])


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "gaussian", "laplace"])
def test_declared_likelihood_of_numbers_makes_whole_numbers_numbers(tmp_path: Path, likelihood: str) -> None:
    found, data = read(tmp_path, {"x": X, "n": np.arange(60) % 7}, modalities={"n": {"likelihood": likelihood}})
    assert (modality(found, "n").dtype, modality(found, "n").likelihood) == ("float32", likelihood)
    np.testing.assert_array_equal(data.values["n"], np.arange(60) % 7)


@pytest.mark.parametrize(
    ("likelihood", "value", "expected"),
    [
        ("poisson", 1.5, "whole numbers from 0 on"),
        ("negative_binomial", -1, "whole numbers from 0 on"),
        ("bernoulli", 2, "numbers from 0 to 1"),
    ],
)
def test_fault_names_the_place_of_a_value_outside_the_support(
    tmp_path: Path, likelihood: str, value: float, expected: str
) -> None:
    arrays = {"n": np.array([[0, 1], [1, value], [0, 0]], np.float32)}
    declared = {"modalities": {"n": {"likelihood": likelihood}}}
    with pytest.raises(BadInput) as caught:
        from_npz(tmp_path, arrays, **declared)
    (fault,) = caught.value.faults
    assert (fault.pointer, fault.code) == ("/n/1/1", "bad_value")
    assert f"is {value:g} at row 1, element [1], expected {expected}" in fault.detail


def test_mean_of_counts_that_is_not_whole_is_refused_for_declared_counts(tmp_path: Path) -> None:
    rows: Rows = {"n": [[1, 2, 4]], "n.time": [[0.0, 0.5, 1.0]]}
    declared: dict[str, Any] = {"step_seconds": 1, "modalities": {"n": {"likelihood": "poisson"}}}
    with pytest.raises(BadInput) as caught:
        from_json(tmp_path, rows, **declared)
    assert caught.value.faults[0].pointer == "/schema/modalities/n/likelihood"
    declared["modalities"]["n"] = {"dtype": "float32"}
    from_json(tmp_path, rows, **declared)
    assert modality(of_json(tmp_path, **declared)[0], "n").likelihood == "gaussian"


def test_text_with_a_likelihood_of_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        from_json(tmp_path, {"w": ["a", "b"]}, modalities={"w": {"likelihood": "poisson"}})
    assert caught.value.faults[0].code == "not_numeric"


def test_fault_names_a_value_of_a_declared_category_that_is_not_whole(tmp_path: Path) -> None:
    for value in (np.inf, 0.5):
        arrays = {"x": X, "n": np.array([0.0, 1.0, value] * 20)}
        with pytest.raises(BadInput) as caught:
            from_npz(tmp_path, arrays, modalities={"n": {"dtype": "int64"}})
        assert (caught.value.faults[0].pointer, caught.value.faults[0].code) == ("/n/2", "bad_value")


def test_booleans_declared_as_categories_are_equal_from_every_format(tmp_path: Path) -> None:
    for flags in ([True, False] * 30, [True] * 60):
        found, _ = read(tmp_path, {"x": X, "flag": np.array(flags)}, modalities={"flag": {"dtype": "int64"}})
        assert modality(found, "flag").categories == 2
