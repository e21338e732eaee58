"""Stored samples: a written dataset is read back unchanged, and a damaged file is recognised."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.shared import samples
from service.shared.samples import CorruptSamples, ModalitySchema, Samples, Schema

STATIC = Samples(
    schema=Schema(
        kind="static",
        modalities=(
            ModalitySchema(name="image", shape=(1, 2), dtype="float32"),
            ModalitySchema(name="label", shape=(), dtype="int64", categories=3),
        ),
    ),
    rows=3,
    values={
        "image": np.array([[[1, 2]], [[np.nan, 4]], [[5, 6]]], dtype=np.float32),
        "label": np.array([2, 0, 1]),
    },
    present={"image": np.array([True, False, True]), "label": np.array([True, True, False])},
)
SEQUENCE = Samples(
    schema=Schema(kind="sequence", modalities=(ModalitySchema(name="x", shape=(2,), dtype="float32"),)),
    rows=2,
    values={"x": np.arange(10, dtype=np.float32).reshape(5, 2)},
    present={"x": np.array([True, True, False, True, True])},
    offsets=np.array([0, 2, 5]),
)


def test_absent_static_values_are_read_back_as_zeros(tmp_path: Path) -> None:
    samples.write(tmp_path / "data", STATIC)
    read = samples.open(tmp_path / "data")
    assert (read.schema, read.rows, read.offsets) == (STATIC.schema, 3, None)
    np.testing.assert_array_equal(read.values["image"], np.array([[[1, 2]], [[0, 0]], [[5, 6]]], dtype=np.float32))
    np.testing.assert_array_equal(read.values["label"], [2, 0, 0])
    for name in ("image", "label"):
        assert read.present[name].dtype == np.bool_
        np.testing.assert_array_equal(read.present[name], STATIC.present[name])


def test_equal_samples_give_equal_files(tmp_path: Path) -> None:
    """The name of an artifact is the digest of its content."""
    contents = set()
    for n in range(10):
        samples.write(tmp_path / f"data{n}", STATIC)
        contents.add((tmp_path / f"data{n}").read_bytes())
    assert len(contents) == 1


def test_writing_does_not_change_the_callers_arrays(tmp_path: Path) -> None:
    samples.write(tmp_path / "data", STATIC)
    assert np.isnan(STATIC.values["image"][1, 0, 0])


def test_sequences_are_read_back_with_their_offsets(tmp_path: Path) -> None:
    samples.write(tmp_path / "data", SEQUENCE)
    read = samples.open(tmp_path / "data")
    assert read.offsets is not None
    np.testing.assert_array_equal(read.offsets, [0, 2, 5])
    np.testing.assert_array_equal(read.present["x"], SEQUENCE.present["x"])
    np.testing.assert_array_equal(read.values["x"][[0, 1, 3, 4]], SEQUENCE.values["x"][[0, 1, 3, 4]])


def test_arrays_that_were_read_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    samples.write(tmp_path / "data", STATIC)
    with pytest.raises(ValueError, match="read-only"):
        samples.open(tmp_path / "data").values["image"][0] = 1


@pytest.mark.parametrize("keep", [0, 4, 8, 20, 0.5, -1])
def test_a_truncated_file_is_recognised(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "data"
    samples.write(path, STATIC)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(CorruptSamples):
        samples.open(path)


@pytest.mark.parametrize("content", [b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b"\x04\0\0\0\0\0\0\0null"])
def test_a_file_of_another_format_is_recognised(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(CorruptSamples):
        samples.open(path)


def test_a_safetensors_file_that_is_not_a_dataset_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "data"
    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)
    with pytest.raises(CorruptSamples, match="not a stored dataset"):
        samples.open(path)
