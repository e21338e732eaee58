"""Arrays become stored samples; a fault names the place of a value that cannot be stored."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.datasets.declaration import Declaration
from service.shared import samples
from service.shared.errors import BadInput, Fault
from service.shared.samples import Samples
from tests.service.files import Array, packed
from worker.ingest import npz
from worker.ingest.convert import Converted, convert
from worker.ingest.faults import Faults
from worker.ingest.npz import NpzSource

NAN, INF = np.nan, np.inf


def conversion(folder: Path, arrays: dict[str, Array], **declared: Any) -> Converted:
    path = folder / "upload.npz"
    path.write_bytes(packed(**arrays))
    declaration, faults = Declaration.model_validate(declared), Faults()
    source = NpzSource(path, declaration, 10**9, folder, faults)
    return convert(source, faults, folder / "stored", lambda fraction: None)


def converted(folder: Path, arrays: dict[str, Array], **declared: Any) -> Samples:
    conversion(folder, arrays, **declared)
    return samples.open(folder / "stored")


def faults(folder: Path, arrays: dict[str, Array], **declared: Any) -> list[Fault]:
    with pytest.raises(BadInput) as caught:
        converted(folder, arrays, **declared)
    assert not list(folder.glob("stored.*"))
    return list(caught.value.faults)


def test_values_keep_their_order_and_become_their_stored_types(tmp_path: Path) -> None:
    found = converted(tmp_path, {"b": np.array([1, 0], dtype=np.uint8), "a": np.array([[1.5, 2], [3, 4]])})
    assert found.schema.names() == ["a", "b"]
    assert found.rows == 2
    np.testing.assert_array_equal(found.values["a"], [[1.5, 2], [3, 4]])
    assert found.values["a"].dtype == np.float32
    np.testing.assert_array_equal(found.values["b"], [1, 0])
    assert found.present["a"].all()
    assert found.offsets is None


def test_progress_is_reported_after_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "BLOCK_BYTES", 16)
    path = tmp_path / "upload.npz"
    path.write_bytes(packed(a=np.zeros(4), b=np.zeros(4)))
    done: list[float] = []
    source = NpzSource(path, Declaration(), 10**6, tmp_path, Faults())
    convert(source, Faults(), tmp_path / "stored", done.append)
    assert done == [0, 0.25, 0.5, 0.75]


ARRAYS = {
    "image": np.arange(7 * 6.0).reshape(7, 2, 3),
    "image.present": np.array([1, 0, 1, 1, 0, 1, 1]),
    "label": np.array([0, 1, 2, 0, 1, 2, 3]),
}
SEQUENCES = {
    "x": np.arange(7 * 4 * 2.0).reshape(7, 4, 2),
    "x.lengths": np.array([1, 4, 2, 3, 1, 1, 4]),
    "y": np.arange(7 * 3.0).reshape(7, 3),
    "y.present": np.arange(21).reshape(7, 3) % 4 > 0,
}


@pytest.mark.parametrize("arrays", [ARRAYS, SEQUENCES])
@pytest.mark.parametrize("block_bytes", [1, 100, 250])
def test_result_does_not_depend_on_the_block_size(
    tmp_path: Path, arrays: dict[str, Array], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {"split": {"validation": 0.3, "test": 0.2, "seed": 4}}
    whole = conversion(tmp_path, arrays, **declared)
    content = (tmp_path / "stored").read_bytes()
    monkeypatch.setattr(npz, "BLOCK_BYTES", block_bytes)
    pieces = conversion(tmp_path, arrays, **declared)
    assert (tmp_path / "stored").read_bytes() == content
    assert pieces.schema == whole.schema
    np.testing.assert_equal(_rounded(pieces.statistics), _rounded(whole.statistics))
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("stored", "upload.npz")] == []


def _rounded(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {name: _rounded(value) for name, value in figures.items()}
    return round(figures, 9) if isinstance(figures, float) else figures


def test_fortran_order_is_read(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(4, 2, 3)
    found = converted(tmp_path, {"a": np.asfortranarray(array)})
    np.testing.assert_array_equal(found.values["a"], array)


def test_big_endian_and_half_precision_are_read(tmp_path: Path) -> None:
    found = converted(tmp_path, {"a": np.array([1.5, 2.5], ">f8"), "b": np.array([0.5, 1], np.float16)})
    np.testing.assert_array_equal(found.values["a"], [1.5, 2.5])
    np.testing.assert_array_equal(found.values["b"], [0.5, 1])


def test_ids_labels_and_splits_are_stored(tmp_path: Path) -> None:
    arrays = {
        "x": np.zeros(3),
        "patient": np.array(["p1", "p2", "Zoë"]),
        "diagnosis": np.array([4, 5, 4]),
        "fold": np.array(["train", "test", "Validation"]),
    }
    found = converted(tmp_path, arrays, ids="patient", labels="diagnosis", split={"column": "fold"})
    assert found.schema.names() == ["x"]
    assert found.ids is not None
    assert list(found.ids) == ["p1", "p2", "Zoë"]
    assert found.labels is not None
    assert found.labels[1:] == ["5", "4"]
    np.testing.assert_array_equal(found.splits, [0, 2, 1])


def test_fault_names_a_text_that_is_not_a_split(tmp_path: Path) -> None:
    arrays = {"x": np.zeros(2), "fold": np.array(["train", "tset"])}
    (found,) = faults(tmp_path, arrays, split={"column": "fold"})
    assert (found.pointer, found.code) == ("/fold/1", "bad_split")
    assert found.detail == "'fold' is 'tset' at row 1, expected one of training, validation, test"


def test_declared_fractions_hold_out_rows_by_seed(tmp_path: Path) -> None:
    declared = {"split": {"validation": 0.2, "test": 0.1, "seed": 1}}
    found = converted(tmp_path, {"x": np.zeros(2000)}, **declared).splits
    assert found is not None
    found = found.copy()  # the next conversion writes to the same place
    assert np.bincount(found) == pytest.approx([1400, 400, 200], rel=0.1)
    other = converted(tmp_path, {"x": np.zeros(2000)}, split={**declared["split"], "seed": 2}).splits
    assert not np.array_equal(found, other)


def test_text_array_is_not_a_modality(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {"x": np.zeros(2), "name": np.array(["a", "b"])})
    assert (found.pointer, found.code) == ("/name", "not_numeric")


def test_ignored_array_is_left_out(tmp_path: Path) -> None:
    found = converted(tmp_path, {"x": np.zeros(2), "name": np.array(["a", "b"])}, ignore=["name"])
    assert found.schema.names() == ["x"]


def test_declared_facts_are_in_the_schema(tmp_path: Path) -> None:
    declared = {"x": {"units": "mmHg", "likelihood": "laplace", "shape": [2]}}
    (modality,) = converted(tmp_path, {"x": np.zeros((3, 2))}, modalities=declared).schema.modalities
    assert (modality.units, modality.likelihood) == ("mmHg", "laplace")
    (found,) = faults(tmp_path, {"x": np.zeros((3, 2))}, modalities={"x": {"shape": [3]}})
    assert found.detail == "a value of 'x' has shape (2,), expected (3,) as declared"


def test_lengths_make_sequences(tmp_path: Path) -> None:
    found = converted(tmp_path, {"x": np.zeros((2, 3)), "x.lengths": np.array([1, 3])})
    assert found.schema.kind == "sequence"


def test_mask_hides_any_value(tmp_path: Path) -> None:
    arrays = {
        "a": np.array([1.0, NAN, INF]),
        "a.present": np.array([True, False, False]),
        "label": np.array([0, -7, 1]),
        "label.present": np.array([1, 0, 1]),
        "c": np.ones(3),
    }
    found = converted(tmp_path, arrays)
    np.testing.assert_array_equal(found.present["a"], [True, False, False])
    np.testing.assert_array_equal(found.present["label"], [True, False, True])
    label = next(modality for modality in found.schema.modalities if modality.name == "label")
    assert label.categories == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAN, "a finite number"),
        (INF, "a finite number"),
        (-INF, "a finite number"),
        (1e39, "a number within float32's range, at most 3.4e+38 in size"),
    ],
)
def test_fault_names_a_value_that_is_not_finite(tmp_path: Path, value: float, expected: str) -> None:
    array = np.zeros((4, 2, 3))
    array[2, 1, 0] = value
    (found,) = faults(tmp_path, {"image": array})
    assert (found.pointer, found.code) == ("/image/2/1/0", "bad_value")
    assert found.detail.endswith(f"is {value} at row 2, element [1, 0], expected {expected}")


def test_fault_names_the_step_of_a_value_in_a_sequence(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 3))
    array[2, 4, 1] = NAN
    (found,) = faults(tmp_path, {"x": array}, kind="sequence")
    assert found.pointer == "/x/2/4/1"
    assert "row 2, step 4, element [1]" in found.detail


def test_nan_may_mean_missing_and_infinity_may_not(tmp_path: Path) -> None:
    found = converted(tmp_path, {"a": np.array([[1, NAN], [1, 2]]), "b": np.zeros(2)}, nan="missing")
    np.testing.assert_array_equal(found.present["a"], [False, True])
    (fault,) = faults(tmp_path, {"a": np.array([1, INF]), "b": np.zeros(2)}, nan="missing")
    assert fault.pointer == "/a/1"


def test_nan_in_a_time_step_makes_the_step_missing(tmp_path: Path) -> None:
    array = np.ones((1, 3, 2))
    array[0, 1, 0] = NAN
    found = converted(tmp_path, {"x": array}, kind="sequence", nan="missing")
    np.testing.assert_array_equal(found.present["x"], [True, False, True])


def test_fault_names_a_category_out_of_range(tmp_path: Path) -> None:
    declared = {"modalities": {"a": {"categories": 3}}}
    found = faults(tmp_path, {"a": np.array([0, 3, -1, 2])}, **declared)
    assert [fault.pointer for fault in found] == ["/a/1", "/a/2"]
    assert found[0].detail == "modality 'a' is 3 at row 1, expected a category from 0 to 2"


def test_row_without_any_modality_is_left_out_with_a_warning(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(3.0),
        "a.present": np.array([0, 0, 1]),
        "b": np.arange(3.0),
        "b.present": np.array([1, 0, 1]),
        "who": np.array(["p0", "p1", "p2"]),
        "fold": np.array(["train", "train", "test"]),
    }
    found = conversion(tmp_path, arrays, ids="who", split={"column": "fold"})
    assert (found.rows, found.statistics["rows"], found.statistics["empty_rows"]) == (2, 2, 1)
    (warning,) = found.warnings
    assert (warning.code, warning.column) == ("empty_rows", None)
    assert warning.detail == "1 of the file's rows have no value of any modality and were left out: 1"
    stored = samples.open(tmp_path / "stored")
    assert (stored.rows, list(stored.ids or ())) == (2, ["p0", "p2"])
    np.testing.assert_array_equal(stored.values["b"], [0, 2])
    np.testing.assert_array_equal(stored.present["a"], [False, True])
    np.testing.assert_array_equal(stored.splits, [0, 2])


@pytest.mark.parametrize("block_bytes", [1, 10**6])
def test_sequence_without_any_modality_is_left_out(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence is empty without steps, or without a value at any step. A single step without values is kept."""
    monkeypatch.setattr(npz, "BLOCK_BYTES", block_bytes)
    arrays = {
        "x": np.arange(12.0).reshape(4, 3),
        "x.lengths": np.array([0, 3, 2, 1]),
        "x.present": np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]]),
    }
    found = conversion(tmp_path, arrays, kind="sequence")
    assert (found.rows, found.statistics["empty_rows"]) == (2, 2)
    assert found.warnings[0].detail.endswith("were left out: 0, 2")
    stored = samples.open(tmp_path / "stored")
    np.testing.assert_array_equal(stored.offsets, [0, 3, 4])
    np.testing.assert_array_equal(stored.values["x"], [3, 0, 5, 9])


def test_file_of_only_empty_rows_is_refused(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {"x": np.ones(3), "x.present": np.zeros(3, bool)})
    assert found.code == "no_rows"


def test_sequences_are_packed_one_after_the_other(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(3, 4)
    found = converted(tmp_path, {"x": x, "x.lengths": np.array([2, 4, 1])}, kind="sequence")
    assert found.offsets is not None
    np.testing.assert_array_equal(found.offsets, [0, 2, 6, 7])
    np.testing.assert_array_equal(found.values["x"], [0, 1, 4, 5, 6, 7, 8])
    assert found.present["x"].all()


def test_row_is_as_long_as_its_longest_modality(tmp_path: Path) -> None:
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "x.lengths": np.array([1, 3]),
        "y": np.array([[7, 8], [9, 9]]),
        "y.lengths": np.array([2, 0]),
    }
    found = converted(tmp_path, arrays, kind="sequence")
    assert found.offsets is not None
    np.testing.assert_array_equal(found.offsets, [0, 2, 5])
    np.testing.assert_array_equal(found.present["x"], [1, 0, 1, 1, 1])
    np.testing.assert_array_equal(found.present["y"], [1, 1, 0, 0, 0])
    assert [m.category_names for m in found.schema.modalities] == [None, (7, 8)]
    np.testing.assert_array_equal(found.values["y"][:2], [0, 1])


def test_mask_may_be_by_row_or_by_step(tmp_path: Path) -> None:
    arrays = {
        "x": np.ones((2, 3)),
        "x.present": np.array([True, False]),
        "y": np.ones((2, 3)),
        "y.present": np.array([[1, 0, 1], [1, 1, 0]]),
    }
    found = converted(tmp_path, arrays, kind="sequence")
    np.testing.assert_array_equal(found.present["x"], [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(found.present["y"], [1, 0, 1, 1, 1, 0])


@pytest.mark.parametrize("length", [-1, 4])
def test_fault_names_a_length_out_of_range(tmp_path: Path, length: int) -> None:
    found = faults(tmp_path, {"x": np.ones((2, 3)), "x.lengths": np.array([1, length])}, kind="sequence")
    assert (found[0].pointer, found[0].code) == ("/x.lengths/1", "bad_length")
    assert f"is {length} at row 1, expected 0 to 3" in found[0].detail


def test_number_of_reported_faults_is_bounded(tmp_path: Path) -> None:
    arrays = {
        "x": np.full((300, 3), NAN),
        "x.lengths": np.full(300, 9),
        "y": np.full((300, 3), NAN),
        "y.lengths": np.full(300, 9),
        "z": np.full((300, 3), NAN),
    }
    assert len(faults(tmp_path, arrays, kind="sequence")) == 100
