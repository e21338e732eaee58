"""Inputs with any subset of the modalities become arrays and masks, or faults that name the place."""

import json
from typing import Any

import numpy as np
import pytest

from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from service.inference.row_decoding import decode_rows
from service.inference.rows import RowLimits, Rows
from service.shared.errors import BadInput, Fault, TooLarge

IMAGE = ModalityConfig(name="image", shape=(2, 2), likelihood="gaussian")
AUDIO = ModalityConfig(name="audio", shape=(3,), likelihood="gaussian")
LABEL = ModalityConfig(name="label", categories=4, likelihood="categorical")
HEIGHT = ModalityConfig(name="height", likelihood="gaussian")
STATIC = MMVAEConfig(modalities=(IMAGE, AUDIO, LABEL, HEIGHT))
SEQUENCE = MMVRNNConfig(modalities=(AUDIO, LABEL))
PICTURE = [[1, 2], [3, 4]]


def rows(inputs: Any, config: MMVAEConfig | MMVRNNConfig = STATIC) -> Rows:
    return decode_rows(inputs, config, RowLimits(rows=10, steps=1000))


def faults(inputs: Any, config: MMVAEConfig | MMVRNNConfig = STATIC) -> list[Fault]:
    with pytest.raises(BadInput) as caught:
        rows(inputs, config)
    json.dumps([fault.pointer + fault.detail for fault in caught.value.faults])
    return list(caught.value.faults)


def test_any_subset_of_the_modalities_is_read() -> None:
    found = rows({"label": [3, None, 0], "image": [None, PICTURE, PICTURE]})
    assert found.count == 3
    assert found.values.keys() == {"image", "label"}
    np.testing.assert_array_equal(found.present["label"], [True, False, True])
    np.testing.assert_array_equal(found.present["image"], [False, True, True])
    np.testing.assert_array_equal(found.values["label"], [3, 0, 0])
    np.testing.assert_array_equal(found.values["image"], [np.zeros((2, 2)), PICTURE, PICTURE])
    assert (found.values["image"].dtype, found.values["label"].dtype) == (np.float32, np.int64)
    assert found.lengths is None


def test_a_scalar_modality_is_a_list_of_numbers() -> None:
    np.testing.assert_array_equal(rows({"height": [1, 2.5]}).values["height"], [1, 2.5])


FLAG = ModalityConfig(name="flag", shape=(2,), likelihood="bernoulli")
SIDE = ModalityConfig(name="side", categories=2, likelihood="categorical")
GRADE = ModalityConfig(name="grade", categories=2, category_names=(3, 7), likelihood="categorical")
TRUTHS = MMVAEConfig(modalities=(FLAG, SIDE, GRADE, HEIGHT))


def test_booleans_are_values_where_there_are_only_zero_and_one() -> None:
    found = rows({"flag": [[True, False], None, [1, True]], "side": [True, False, None]}, TRUTHS)
    np.testing.assert_array_equal(found.values["flag"], [[1, 0], [0, 0], [1, 1]])
    np.testing.assert_array_equal(found.values["side"], [1, 0, 0])
    assert (found.values["flag"].dtype, found.values["side"].dtype) == (np.float32, np.int64)
    assert [fault.pointer for fault in faults({"height": [1.5, True]}, TRUTHS)] == ["/inputs/height/1"]


def test_whole_floats_are_categories() -> None:
    """pandas stores integer categories as floats in a column with missing values."""
    found = rows({"label": [3.0, None, 0.0], "height": [1, 2, 3]})
    np.testing.assert_array_equal(found.values["label"], [3, 0, 0])
    assert found.values["label"].dtype == np.int64
    assert rows({"grade": [7.0, 3], "height": [1, 2]}, TRUTHS).values["grade"].tolist() == [1, 0]
    assert [fault.pointer for fault in faults({"grade": [3.5, 7]}, TRUTHS)] == ["/inputs/grade/0"]


def test_a_number_beyond_float32_has_another_message_than_infinity() -> None:
    (found,) = faults({"audio": [[0.5, 1e39, 2.5]]})
    expected = "numbers within float32's range, at most 3.4e+38 in size"
    assert found.detail == f"modality 'audio' has value 1e+39 at inputs.audio[0], expected {expected}"
    (found,) = faults({"audio": [[0.5, float("inf"), 2.5]]})
    assert found.detail == "modality 'audio' has value inf at inputs.audio[0], expected finite numbers"


def test_a_modality_that_is_null_everywhere_is_absent() -> None:
    found = rows({"label": [1], "image": [None]})
    assert not found.present["image"].any()


def test_sequences_have_their_own_lengths_and_gaps() -> None:
    audio = [[1, 2, 3], None, [4, 5, 6]]
    found = rows({"audio": [audio, None, [None]], "label": [[0, 1, None], [2, 3], [1]]}, SEQUENCE)
    assert found.lengths is not None
    np.testing.assert_array_equal(found.lengths, [3, 2, 1])
    np.testing.assert_array_equal(found.present["audio"], [[1, 0, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found.present["label"], [[1, 1, 0], [1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(found.values["audio"][0], [[1, 2, 3], [0, 0, 0], [4, 5, 6]])


@pytest.mark.parametrize(
    ("inputs", "pointer", "code"),
    [
        (None, "/inputs", "no_modality"),
        ({}, "/inputs", "no_modality"),
        ([], "/inputs", "no_modality"),
        ({"smell": [1]}, "/inputs/smell", "unknown_modality"),
        ({"a/b~c": [1]}, "/inputs/a~1b~0c", "unknown_modality"),
        ({"label": 3}, "/inputs/label", "not_a_list"),
        ({"label": []}, "/inputs/label", "not_a_list"),
        ({"label": [1, 2], "height": [1]}, "/inputs", "row_counts_differ"),
        ({"label": [1] * 11}, "/inputs", "too_many_rows"),
        ({"label": [1, None]}, None, "no_modality"),
        ({"label": [1, 4]}, "/inputs/label/1", "bad_value"),
        ({"label": [1, -1]}, "/inputs/label/1", "bad_value"),
        ({"label": [1.5]}, "/inputs/label/0", "bad_value"),
        ({"label": ["1"]}, "/inputs/label/0", "bad_value"),
        ({"label": [True]}, "/inputs/label/0", "bad_value"),
        ({"label": [[1]]}, "/inputs/label/0", "bad_value"),
        ({"label": [2**70]}, "/inputs/label/0", "bad_value"),
        ({"height": [1, "2"]}, "/inputs/height/1", "bad_value"),
        ({"height": [1, {}]}, "/inputs/height/1", "bad_value"),
        ({"height": [1, 1e39]}, "/inputs/height/1", "bad_value"),
        ({"image": [PICTURE, [[1, 2], [3]]]}, "/inputs/image/1", "bad_value"),
        ({"image": [PICTURE, [[1, 2], [3, None]]]}, "/inputs/image/1", "bad_value"),
        ({"image": [PICTURE, [[1, 2], [3, 4], [5, 6]]]}, "/inputs/image/1", "bad_value"),
        ({"image": [PICTURE, 5]}, "/inputs/image/1", "bad_value"),
        ({"image": [PICTURE, []]}, "/inputs/image/1", "bad_value"),
        ({"audio": [[1, 2, 3], [1, 2]]}, "/inputs/audio/1", "bad_value"),
    ],
    ids=str,
)
def test_a_fault_names_its_place(inputs: Any, pointer: str | None, code: str) -> None:
    found = faults(inputs)[0]
    assert found.code == code
    if pointer is not None:
        assert found.pointer == pointer


@pytest.mark.parametrize(
    ("inputs", "pointer", "code"),
    [
        ({"audio": [[1, 2, 3]]}, "/inputs/audio/0/0", "bad_value"),
        ({"audio": [[[1, 2, 3], [1, 2]]]}, "/inputs/audio/0/1", "bad_value"),
        ({"audio": [5]}, "/inputs/audio/0", "not_a_sequence"),
        ({"audio": [[]]}, "/inputs/audio/0", "not_a_sequence"),
        ({"audio": [[[1, 2, 3]]], "label": [[1, 2]]}, "/inputs/label/0", "lengths_differ"),
        ({"label": [[None, None]]}, None, "no_modality"),
        ({"label": [None]}, None, "no_modality"),
    ],
    ids=str,
)
def test_a_fault_in_a_sequence_names_row_and_step(inputs: Any, pointer: str | None, code: str) -> None:
    found = faults(inputs, SEQUENCE)[0]
    assert found.code == code
    if pointer is not None:
        assert found.pointer == pointer


def test_a_wrong_number_of_features_has_its_message() -> None:
    found = faults({"audio": [[1, 2, 3], None, [0, 0, 0], [1, 2]]})
    assert [fault.detail for fault in found] == ["modality 'audio' has 2 features at inputs.audio[3], expected 3"]


def test_a_wrong_shape_has_its_message() -> None:
    (found,) = faults({"image": [PICTURE, PICTURE, PICTURE, [1, 2, 3]]})
    assert found.detail == "modality 'image' has shape [3] at inputs.image[3], expected [2, 2]"


def test_at_most_20_faults_are_reported() -> None:
    assert len(faults({"height": ["x"] * 10, "label": ["x"] * 10, "audio": ["x"] * 10})) == 20


def test_one_long_sequence_cannot_pad_many_short_ones_to_its_length() -> None:
    short = [[[1, 2, 3]]] * 9
    (found,) = faults({"audio": [[[1, 2, 3]] * 200, *short]}, SEQUENCE)
    assert (found.pointer, found.code) == ("/inputs", "too_large")
    assert "10 rows x 200 steps x 1 draws are 2000, expected at most 1000" in found.detail


@pytest.mark.parametrize("kind", [MMVAEConfig, MMVRNNConfig])
@pytest.mark.parametrize("features", [2**20, 2**16])
def test_zeros_for_missing_values_count_before_they_are_allocated(
    kind: type[MMVAEConfig | MMVRNNConfig], features: int
) -> None:
    """The zeros of all modalities count together: with 2**16 features each modality alone would fit."""
    large = [ModalityConfig(name=name, shape=(features,), likelihood="gaussian") for name in "ab"]
    missing: list[Any] = [None] * 1100
    inputs = {"a": missing, "b": missing, "label": [1 if kind is MMVAEConfig else [1]] * 1100}
    with pytest.raises(TooLarge, match=r"inputs\.[ab] has room for 1100 values .* expected at most 536870912"):
        decode_rows(inputs, kind(modalities=(*large, LABEL)), RowLimits(rows=4096, steps=10_000))


@pytest.mark.parametrize("value", ["7", True, {"a": 1}, None])
def test_a_value_that_is_not_a_number_is_refused_at_any_place(value: Any) -> None:
    assert faults({"audio": [[1, 2, 3], [1, value, 3]]})[0].pointer == "/inputs/audio/1"


def test_a_long_text_is_refused_before_numpy_reads_it() -> None:
    """NumPy would make each of the other texts as wide: 4 GB for every million characters."""
    with pytest.raises(BadInput, match="expected numbers"):
        decode_rows({"height": ["x" * 10**7] + [""] * 4095}, STATIC, RowLimits(rows=4096, steps=10_000))
