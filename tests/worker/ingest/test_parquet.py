"""Columns of Parquet become modalities; a fault names the place of an error."""

import struct
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
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
from worker.ingest.convert import convert
from worker.ingest.faults import Faults
from worker.ingest.parquet import ParquetSource


def read(path: Path, max_bytes: int = 10**8, **declared: Any) -> Samples:
    declaration, faults = Declaration.model_validate(declared), Faults()
    source = ParquetSource(path, declaration, max_bytes)
    convert(source, faults, path.with_name("stored"), lambda done: None)
    assert source.fraction() == 1
    return samples.open(path.with_name("stored"))


def converted(folder: Path, columns: dict[str, Any], **declared: Any) -> Samples:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return read(folder / "a.parquet", **declared)


def faults(folder: Path, columns: dict[str, Any], **declared: Any) -> list[Fault]:
    with pytest.raises(BadInput) as caught:
        converted(folder, columns, **declared)
    return list(caught.value.faults)


VECTORS: list[Any] = [[1.0, 2], None, [3, 4]]


@pytest.mark.parametrize(
    "type",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float16(), 2),
        pa.list_view(pa.int16()),
        pa.large_list_view(pa.uint8()),
    ],
)
def test_every_list_type_becomes_a_vector(tmp_path: Path, type: Any) -> None:
    found = converted(tmp_path, {"x": pa.array(VECTORS, type), "y": pa.array([1.0, 2, 3])})
    assert found.schema.kind == "static"
    assert found.values["x"].tolist() == [[1, 2], [0, 0], [3, 4]]
    assert found.present["x"].tolist() == [True, False, True]


def test_tensor_column_keeps_its_shape(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    found = converted(tmp_path, {"x": pa.FixedShapeTensorArray.from_numpy_ndarray(array)})
    np.testing.assert_array_equal(found.values["x"], array)


def test_tensor_with_permuted_axes_is_refused(tmp_path: Path) -> None:
    type = pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0])
    storage = pa.array([[0.0] * 6], type.storage_type)
    (found,) = faults(tmp_path, {"x": pa.ExtensionArray.from_storage(type, storage)})
    assert (found.pointer, found.code) == ("/x", "unknown_type")


def test_tensor_is_one_value_and_a_list_of_tensors_is_a_sequence(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype=np.float32).reshape(3, 2, 2))
    (fault,) = faults(tmp_path, {"x": tensors}, kind="sequence")
    assert (fault.pointer, fault.code) == ("/x", "not_a_sequence")
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), tensors)
    found = converted(tmp_path, {"x": lists})
    assert found.offsets is not None
    assert found.offsets.tolist() == [0, 1, 3]
    assert found.values["x"].shape == (3, 2, 2)


def test_lists_of_different_lengths_make_sequences(tmp_path: Path) -> None:
    found = converted(tmp_path, {"x": [[1.0], [2.0, None, 4.0], None], "y": [["b"], [], ["a", "b"]]})
    assert found.schema.kind == "sequence"
    assert found.offsets is not None
    assert found.offsets.tolist() == [0, 1, 4, 6]
    assert found.present["x"].tolist() == [True, True, False, True, False, False]
    assert found.values["y"].tolist() == [1, 0, 0, 0, 0, 1]
    assert found.schema.modalities[1].category_names == ("a", "b")


def test_fault_names_single_values_in_a_dataset_of_sequences(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {"x": [[1.0], [2.0, 3.0]], "age": [1.5, 2.5]})
    assert (found.pointer, found.code) == ("/age", "not_a_sequence")
    assert "expected lists" in found.detail


def test_dictionary_words_that_do_not_occur_are_no_categories(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([2, 0, None, 2]), pa.array(["z", "unused", "a"]))
    found = converted(tmp_path, {"x": words, "y": [1.0, 2, 3, 4]})
    assert found.schema.modalities[0].category_names == ("a", "z")
    assert found.values["x"].tolist() == [0, 1, 0, 0]
    assert found.present["x"].tolist() == [True, True, False, True]


def test_ids_labels_and_splits_may_have_any_simple_type(tmp_path: Path) -> None:
    columns = {
        "x": [1.0, 2],
        "who": pa.array([7, None]),
        "when": pa.array([0, 86_400], pa.timestamp("s")),
        "fold": pa.array([0, 2], pa.int8()),
        "rest": pa.array([{"a": 1}, None]),
    }
    found = converted(tmp_path, columns, ids="who", labels="when", split={"column": "fold"}, ignore=["rest"])
    assert found.schema.names() == ["x"]
    assert [*(found.ids or ())] == ["7", None]
    assert [*(found.labels or ())] == ["1970-01-01 00:00:00.000", "1970-01-02 00:00:00.000"]
    np.testing.assert_array_equal(found.splits, [0, 2])


@pytest.mark.parametrize("type", [pa.float64(), pa.timestamp("ms"), pa.duration("us"), pa.timestamp("ns", "UTC")])
def test_times_of_every_unit_become_seconds(tmp_path: Path, type: Any) -> None:
    per_second = {"float": 1, "double": 1}.get(str(type)) or {"ms": 10**3, "us": 10**6, "ns": 10**9}[type.unit]
    times = pa.array([[100 * per_second, 102 * per_second], [0]], pa.list_(pa.int64())).cast(pa.list_(type))
    found = converted(tmp_path, {"x": [[1.0, 2.0], [3.0]], "x.time": times}, step_seconds=1)
    assert found.offsets is not None
    assert found.offsets.tolist() == [0, 3, 4]
    assert found.present["x"].tolist() == [True, False, True, True]


def test_number_of_times_must_equal_the_number_of_steps(tmp_path: Path) -> None:
    columns = {"x": [[1.0, 2.0], [3.0]], "x.time": [[0.0, 1.0], [0.0, 1.0]]}
    (found,) = faults(tmp_path, columns, step_seconds=1)
    assert (found.pointer, found.code) == ("/x.time/1", "bad_times")
    assert found.detail == "x.time has 2 times at row 1, expected 1, one for each time step of 'x'"


def test_fault_names_times_without_their_column(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {"x": [1.0], "y.time": [[0.0]]}, kind="sequence")[:1]
    assert (found.pointer, found.code) == ("/y.time", "unknown_column")


def test_fault_names_the_place_of_a_value_of_another_shape(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {"x": [[[1.0, 2], [3, 4]], [[1, 2], [3]]]}, kind="static")
    assert (found.pointer, found.code) == ("/x/1/1", "wrong_shape")
    assert found.detail == "'x' has a list of 1 at row 1, element [1], expected 2 in values of shape (2, 2)"
    (found,) = faults(tmp_path, {"x": [[[1.0, 2], [3, 4]], [[1, 2], [3]]]}, kind="sequence")
    assert found.detail == "'x' has a list of 1 at row 1, step 1, expected 2 in values of shape (2,)"


def test_fault_names_the_place_of_a_null_inside_a_vector(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {"x": [[[1.0, 2], None], [[3, 4], [5, None]]]}, kind="sequence")
    assert (found.pointer, found.code) == ("/x/1/1/1", "null_inside")
    assert "row 1, step 1, element [1]" in found.detail


def test_number_of_reported_faults_is_bounded(tmp_path: Path) -> None:
    assert len(faults(tmp_path, {"x": [[1.0, 2.0]] + [[1.0]] * 300}, kind="static")) == 100


def test_absent_value_of_a_large_declared_shape_is_bounded(tmp_path: Path) -> None:
    columns = {"x": pa.array([None] * 1000, pa.list_(pa.float32())), "y": [1.0] * 1000}
    (found,) = faults(tmp_path, columns, modalities={"x": {"shape": [2**20]}}, kind="static")
    assert found.code == "too_large"


@pytest.mark.parametrize("type", [pa.time32("s"), pa.binary()])
def test_unsupported_types_are_refused_unless_ignored(tmp_path: Path, type: Any) -> None:
    columns = {"x": [1.0], "odd": pa.nulls(1, type)}
    (found,) = faults(tmp_path, columns)
    assert (found.pointer, found.code) == ("/odd", "unknown_type")
    assert converted(tmp_path, columns, ignore=["odd"]).schema.names() == ["x"]


def test_row_group_of_a_highly_repeated_number_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array(np.zeros(30_000_000, np.float32))}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 10**6
    with pytest.raises(BadInput, match="expected at most"):
        read(tmp_path / "a.parquet", 10**8)


def test_text_repeated_by_a_short_page_is_not_copied_for_every_row(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), pa.array(["a" * 10**6]))
    pq.write_table(pa.table({"x": words, "y": np.zeros(200_000, np.float32)}), tmp_path / "a.parquet")
    (found,) = faults_of(tmp_path / "a.parquet")
    assert (found.pointer, found.code) == ("/x", "not_a_category")
    assert pa.total_allocated_bytes() - before < 10**8


def faults_of(path: Path, max_bytes: int = 10**8) -> list[Fault]:
    with pytest.raises(BadInput) as caught:
        read(path, max_bytes)
    return list(caught.value.faults)


def test_page_that_announces_more_than_the_footer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": np.arange(100.0)}), path, use_dictionary=False, compression="zstd")
    content = path.read_bytes()
    # A page's header begins at byte 4: its type, 0, then its size unpacked, which becomes 8191 bytes.
    assert content[4:7] == b"\x15\x00\x15"
    path.write_bytes(content[:7] + b"\xfe\x7f" + content[9:])
    assert [fault.code for fault in faults_of(path)] == ["damaged_file"]


def outcome(content: bytes, path: Path) -> str:
    """Whether a file is "read" or "refused"."""
    path.write_bytes(content)
    try:
        read(path, kind="sequence", ignore=["word"])
    except BadInput:
        return "refused"
    return "read"


def test_file_with_any_byte_changed_is_read_or_raises_bad_input(tmp_path: Path) -> None:
    """Reads in a child process: Arrow aborts over damaged size statistics, and the supervisor rejects such a file."""
    path = tmp_path / "a.parquet"
    table = pa.table({"x": [[1.0, 2.0], [3.0, 4.0]], "word": ["a", "b"], "y": [[1], [2, 3]]})
    pq.write_table(table, path)
    content, outcomes = path.read_bytes(), []
    left = [
        content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :] for place in range(0, len(content), 3)
    ]
    while left:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                for found in pool.map(partial(outcome, path=path), left):
                    outcomes.append(found)
                    left = left[1:]
            except BrokenProcessPool:
                outcomes.append("aborted")
                left = left[1:]
    assert outcomes.count("refused") > len(content) / 12
    assert outcomes.count("aborted") < len(outcomes) / 20


def test_page_without_its_announced_lengths_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + struct.pack("<I", 2**31) + b"PAR1")
    assert [fault.code for fault in faults_of(path)] == ["damaged_file"]
