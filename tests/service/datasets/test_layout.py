"""Arrays become modalities, or faults that name the array."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from service.datasets.declaration import Declaration
from service.datasets.layout import Layout
from service.datasets.npz_layout import plan
from service.shared.errors import BadInput
from service.shared.npz import ArrayHeader


def header(name: str, shape: tuple[int, ...], dtype: str = "float32") -> ArrayHeader:
    return ArrayHeader(name, shape, np.dtype(dtype))


def layout(*arrays: ArrayHeader, **declared: Any) -> Layout:
    return plan(arrays, Declaration.model_validate(declared))


def faults(*arrays: ArrayHeader, **declared: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as caught:
        layout(*arrays, **declared)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def test_numbers_and_scalar_integers_have_their_defaults() -> None:
    found = layout(header("image", (5, 1, 2)), header("label", (5,), "uint8"), header("height", (5,)))
    assert (found.kind, found.rows) == ("static", 5)
    assert [(m.name, m.shape, m.dtype, m.categories) for m in found.modalities] == [
        ("height", (), "float32", None),
        ("image", (1, 2), "float32", None),
        ("label", (), "int64", None),
    ]


def test_integers_with_a_shape_are_numbers() -> None:
    assert layout(header("counts", (5, 3), "int32")).modalities[0].dtype == "float32"


def test_a_declaration_overrides_the_defaults() -> None:
    found = layout(
        header("a", (5,), "int32"),
        header("b", (5,), "int32"),
        modalities={"a": {"dtype": "float32"}, "b": {"categories": 9}},
    )
    assert [(m.dtype, m.categories) for m in found.modalities] == [("float32", None), ("int64", 9)]


def test_masks_and_lengths_belong_to_their_array() -> None:
    found = layout(
        header("x", (5, 7, 2)), header("x.present", (5, 7), "bool"), header("x.lengths", (5,), "int64"), kind="sequence"
    )
    assert [(m.name, m.shape) for m in found.modalities] == [("x", (2,))]


def test_modalities_of_different_numbers_of_steps_share_rows() -> None:
    found = layout(header("x", (5, 7, 2)), header("y", (5, 3)), kind="sequence")
    assert (found.rows, [m.shape for m in found.modalities]) == (5, [(2,), ()])


@pytest.mark.parametrize(
    ("arrays", "declared", "expected"),
    [
        ([header("a", (0, 2))], {}, ("", "no_rows")),
        ([header("a.present", (5,), "bool")], {}, ("/a.present", "unknown_array")),
        ([header("a", (5,)), header("b", (6,))], {}, ("/a", "bad_shape")),
        ([header("a", (5, 0))], {}, ("/a", "bad_shape")),
        ([header("a", (5,)), header("b", ())], {}, ("/b", "bad_shape")),
        ([header("a", (5,))], {"kind": "sequence"}, ("/a", "bad_shape")),
        ([header("a", (5, 0))], {"kind": "sequence"}, ("/a", "bad_shape")),
        ([header("a", (5,))], {"modalities": {"b": {}}}, ("/schema/modalities/b", "unknown_column")),
        ([header("a", (5, 2))], {"modalities": {"a": {"categories": 3}}}, ("/a", "not_a_category")),
        ([header("a", (5, 2), "int64")], {"modalities": {"a": {"dtype": "int64"}}}, ("/a", "not_a_category")),
        ([header("a", (5,)), header("a.present", (4,), "bool")], {}, ("/a.present", "bad_mask")),
        ([header("a", (5,)), header("a.present", (5,), "float32")], {}, ("/a.present", "bad_mask")),
        (
            [header("a", (5,)), header("a.lengths", (5,), "int64")],
            {"kind": "static"},
            ("/a.lengths", "bad_lengths"),
        ),
        ([header("a", (5, 7)), header("a.time", (5,))], {}, ("/a.time", "bad_times")),
        ([header("a", (5,)), header("s", (5, 2), "<U4")], {"ids": "s"}, ("/s", "bad_shape")),
        ([header("a", (5,))], {"labels": "s"}, ("/schema/labels", "unknown_column")),
        ([header("a", (5,)), header("b", (5,), "<U4")], {}, ("/b", "not_numeric")),
        (
            [header("a", (5, 2)), header("a.lengths", (5, 2), "int64")],
            {"kind": "sequence"},
            ("/a.lengths", "bad_lengths"),
        ),
        ([header("a", (5, 2)), header("a.lengths", (5,))], {"kind": "sequence"}, ("/a.lengths", "bad_lengths")),
        ([header("../../etc/passwd", (5,))], {}, ("", "bad_name")),
        ([header("", (5,))], {}, ("", "bad_name")),
        ([header("a" * 101, (5,))], {}, ("", "bad_name")),
        ([header("a\n", (5,))], {}, ("", "bad_name")),
    ],
)
def test_every_fault_names_its_array(
    arrays: list[ArrayHeader], declared: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert expected in faults(*arrays, **declared)


def test_all_faults_are_reported_together() -> None:
    found = faults(header("a", (5,)), header("b", (6,)), header("c", (4,)), modalities={"d": {}})
    assert found == [("/schema/modalities/d", "unknown_column"), ("/a", "bad_shape"), ("/c", "bad_shape")]


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ([header("a", (5, 3))], "static"),
        ([header("a", (5, 3)), header("a.lengths", (5,), "int64")], "sequence"),
        ([header("a", (5, 3)), header("a.time", (5, 3))], "sequence"),
        ([header("a", (5, 3, 2)), header("a.present", (5, 3), "bool")], "sequence"),
        ([header("a", (5, 3, 2)), header("a.present", (5,), "bool")], "static"),
    ],
)
def test_the_kind_follows_from_lengths_and_times(arrays: list[ArrayHeader], kind: str) -> None:
    assert layout(*arrays).kind == kind


@pytest.mark.parametrize(("shape", "declared"), [((5, 3), {}), ((5, 3, 2), {"kind": "static"})])
def test_the_fault_of_a_step_mask_in_a_static_dataset_proposes_a_declaration(
    shape: tuple[int, ...], declared: dict[str, Any]
) -> None:
    with pytest.raises(BadInput, match='if the second axis is time, declare "kind": "sequence"'):
        layout(header("a", shape), header("a.present", (5, 3), "bool"), **declared)


def test_ids_labels_split_and_ignored_columns_are_not_modalities() -> None:
    found = layout(
        *(header(name, (5,), "<U4") for name in ("who", "what", "fold")),
        header("x", (5,)),
        header("y", (5,)),
        ids="who",
        labels="what",
        split={"column": "fold"},
        ignore=["y"],
    )
    assert [m.name for m in found.modalities] == ["x"]


@pytest.mark.parametrize(
    "declared",
    [
        {"kind": "table"},
        {"kind": "static", "step_seconds": 1},
        {"step_seconds": 0},
        {"split": {"validation": 0.6, "test": 0.4}},
        {"ids": "a", "labels": "a"},
        {"modalities": {"a": {}}, "ignore": ["a"]},
        {"nan": "ignore"},
        {"colour": "red"},
        {"modalities": {"a": {"categories": 1}}},
        {"modalities": {"a": {"categories": 3, "dtype": "float32"}}},
        {"modalities": {"a": {"likelihood": "categorical", "dtype": "float32"}}},
        {"modalities": {"a": {"likelihood": "poisson", "categories": 3}}},
        {"modalities": {"a": {"likelihood": "gaussian", "dtype": "int64"}}},
        {"modalities": {"a": {"unit": "m"}}},
        {"modalities": {"a/b": {}}},
    ],
    ids=str,
)
def test_a_contradictory_declaration_is_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Declaration.model_validate(declared)
