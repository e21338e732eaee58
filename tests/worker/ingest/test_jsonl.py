"""Lines of JSON become rows; a fault names the line of an error."""

from pathlib import Path
from typing import Any

import pytest

from service.datasets.declaration import Declaration
from service.shared import samples
from service.shared.errors import BadInput, Fault
from service.shared.samples import Samples
from worker.ingest import jsonl
from worker.ingest.convert import convert
from worker.ingest.faults import Faults
from worker.ingest.jsonl import JsonLinesSource


def converted(folder: Path, text: str, max_bytes: int = 10**8, **declared: Any) -> Samples:
    path = folder / "a.jsonl"
    path.write_text(text)
    declaration, told = Declaration.model_validate(declared), Faults()
    source = JsonLinesSource(path, declaration, max_bytes)
    convert(source, told, folder / "stored", lambda done: None)
    assert source.fraction() == 1
    return samples.open(folder / "stored")


def fault(folder: Path, text: str, max_bytes: int = 10**8, **declared: Any) -> Fault:
    with pytest.raises(BadInput) as caught:
        converted(folder, text, max_bytes, **declared)
    return caught.value.faults[0]


def test_keys_are_modalities_and_may_be_absent(tmp_path: Path) -> None:
    found = converted(tmp_path, '{"x": 1.5, "word": "b"}\n{"x": null, "v": [1, 2], "word": "a"}\n{"x": 2}\n\n\n')
    assert found.schema.names() == ["v", "word", "x"]
    assert found.values["x"].tolist() == [1.5, 0, 2]
    assert found.present["x"].tolist() == [True, False, True]
    assert found.values["v"].tolist() == [[0, 0], [1, 2], [0, 0]]
    assert found.values["word"].tolist() == [1, 0, 0]
    assert found.schema.modalities[1].category_names == ("a", "b")


def test_whole_numbers_are_categories_unless_a_fraction_is_among_them(tmp_path: Path) -> None:
    found = converted(tmp_path, '{"a": 1, "b": 1, "c": true}\n{"a": 2, "b": 2.5, "c": false}\n')
    assert [modality.dtype for modality in found.schema.modalities] == ["int64", "float32", "float32"]


def test_lists_of_different_lengths_make_sequences(tmp_path: Path) -> None:
    found = converted(tmp_path, '{"x": [1.5]}\n{"x": [1, null, 3]}\n')
    assert found.offsets is not None
    assert found.offsets.tolist() == [0, 1, 4]
    assert found.present["x"].tolist() == [True, True, False, True]


def test_list_of_nulls_does_not_determine_the_shape(tmp_path: Path) -> None:
    found = converted(tmp_path, '{"x": [null, null], "y": [1]}\n{"x": [[1, 2], [3, 4]], "y": [2]}\n', kind="sequence")
    assert found.values["x"].tolist() == [[0, 0], [0, 0], [1, 2], [3, 4]]
    assert found.present["x"].tolist() == [False, False, True, True]


def test_times_have_their_own_column(tmp_path: Path) -> None:
    found = converted(tmp_path, '{"x": [[1], [2]], "x.time": [0, 2.5]}\n', step_seconds=1)
    assert found.present["x"].tolist() == [True, False, True]
    told = fault(tmp_path, '{"x": [1, 2], "x.time": [0]}\n', step_seconds=1)
    assert (told.pointer, told.code) == ("/x.time/0", "bad_times")


def test_ids_labels_and_splits_are_stored(tmp_path: Path) -> None:
    text = '{"x": 1, "who": "Zoë", "age": 4.5, "fold": 0}\n{"x": 2, "fold": "test", "note": {"a": [1, "b"]}}\n'
    found = converted(tmp_path, text, ids="who", labels="age", split={"column": "fold"}, ignore=["note"])
    assert [*(found.ids or ())] == ["Zoë", None]
    assert [*(found.labels or ())] == ["4.5", None]
    assert found.splits is not None
    assert found.splits.tolist() == [0, 2]
    assert fault(tmp_path, '{"x": 1, "who": [1]}', ids="who").pointer == "/who/0"


@pytest.mark.parametrize("rows", [1, 5, 8192])
def test_fault_names_the_row_where_a_type_changes(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_BATCH_ROWS", rows)
    told = fault(tmp_path, '{"x": 1}\n' * 7 + '{"x": "1"}\n{"x": [1]}\n')
    assert (told.pointer, told.code) == ("/x/7", "mixed_types")
    assert told.detail == "column 'x' is text, expected a number as before at row 7"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"x": NaN}', "NaN is no JSON"),
        ('{"x": -Infinity}', "-Infinity is no JSON"),
        ('{"x": 1e999}', "finite"),
        ('{"x": 9223372036854775808}', "64 bits"),
        ('{"x": 1' + "0" * 5000 + "}", "is not JSON"),
        ('{"x": 1, "x": 2}', "a key is repeated"),
        ('{"x": 1} {"x": 2}', "is not JSON"),
        ("\ufeff" + '{"x": 1}', "byte order mark, which only a file may"),
        ("3", "is 3, expected an object"),
        ("null", "is null, expected an object"),
        ("[1, 2]", "is a list of 2 items, expected an object"),
        ('{"x": "\\ud800"}', "half a surrogate pair"),
        ('{"x": [[[[[[[[[1]]]]]]]]]}', "nested more than 8 lists deep"),
        ('{"x": [1, "a"]}', "of several types"),
        ('{"x": [1, true]}', "of several types"),
        ('{"x": [1, [2]]}', "a list beside something else"),
        ('{"x": [1, {}]}', "an object"),
    ],
)
def test_fault_names_the_line_that_cannot_be_read(tmp_path: Path, line: str, expected: str) -> None:
    told = fault(tmp_path, f'{{"y": 1}}\n{line}\n')
    assert expected in told.detail
    assert "row 1" in told.detail


def test_empty_lines_are_allowed_at_the_end_only(tmp_path: Path) -> None:
    told = fault(tmp_path, '{"x": 1}\n\n{"x": 2}\n')
    assert told.detail.startswith("line 2 (row 1) is empty")


def test_long_line_is_refused_before_it_is_read_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    told = fault(tmp_path, '{"x": 1}\n{"x": [' + "1, " * 10_000 + "1]}\n")
    assert told.detail == "line 2 (row 1) has more than 1000 bytes, expected a shorter line"


def test_absent_values_count_with_their_stored_size(tmp_path: Path) -> None:
    lines = ['{"x": [' + ", ".join(["0.5"] * 1000) + "]}"] + ['{"y": 1.5}'] * 1000
    assert fault(tmp_path, "\n".join(lines), 10**6, kind="static").code == "too_large"
    assert fault(tmp_path, '{"a": 1, "b": 1}\n' + "{}\n" * 9000, 10**4).code == "too_large"
    sequences = ['{"x": [' + "[0.5, 0.5], " * 1000 + "[1, 1]]}"] + ['{"x": [[1, 2]]}'] * 10
    assert fault(tmp_path, "\n".join(sequences), 8000, kind="sequence").code == "too_large"


def test_whole_numbers_beyond_float64_among_floats_are_rounded(tmp_path: Path) -> None:
    found = converted(tmp_path, '{"x": [[0.5], [9007199254740993]]}\n{"x": [[1], [2]]}\n', kind="static")
    assert found.values["x"].tolist() == [[[0.5], [2**53]], [[1], [2]]]


def test_true_among_numbers_is_refused(tmp_path: Path) -> None:
    found = fault(tmp_path, '{"x": [1.5, 2]}\n{"x": [1.5, true]}\n')
    assert (found.pointer, found.code) == ("/x/1", "mixed_types")
    assert found.detail == "column 'x' is of several types, expected one at row 1"
