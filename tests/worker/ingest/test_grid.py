"""Modalities that are read at different rates are aligned on common time steps."""

from typing import Any

import numpy as np
import pytest

from service.datasets.declaration import Declaration
from service.shared.errors import BadInput
from tests.worker.ingest.test_convert import converted, faults
from worker.ingest import grid
from worker.ingest.block import Block, Column
from worker.ingest.faults import Faults


def timed(values: list[float], times: list[float], lengths: list[int], dtype: Any = np.float32) -> Column:
    return Column(np.array(values, dtype), np.ones(len(values), bool), np.array(lengths), np.array(times))


def packed(block: Block, step_seconds: float, faults: Faults) -> grid.Packed:
    return grid.pack(block, grid.plan(block, step_seconds, faults), 0, block.rows)


def test_readings_are_placed_at_the_step_of_their_time() -> None:
    fast = timed([1, 2, 3, 4], [10.0, 10.1, 10.2, 10.3], [4])
    slow = timed([7, 8], [10.0, 10.3], [2])
    found = packed(Block(0, 1, {"fast": fast, "slow": slow}), 0.1, Faults())
    assert found.offsets.tolist() == [0, 4]
    assert found.values["fast"].tolist() == [1, 2, 3, 4]
    assert found.values["slow"].tolist() == [7, 0, 0, 8]
    assert found.present["slow"].tolist() == [True, False, False, True]


def test_every_row_begins_at_its_first_reading() -> None:
    one = timed([1, 2, 3], [5.0, 6.0, 100.0], [2, 1])
    other = timed([4, 5], [6.5, 102.0], [1, 1])
    found = packed(Block(0, 2, {"one": one, "other": other}), 1.0, Faults())
    assert found.offsets.tolist() == [0, 2, 5]
    assert found.values["one"].tolist() == [1, 2, 3, 0, 0]
    assert found.values["other"].tolist() == [0, 4, 0, 0, 5]


def test_several_readings_in_a_step_are_averaged_and_the_last_category_is_kept() -> None:
    number = timed([1, 2, 9], [0.0, 0.4, 1.0], [3])
    category = timed([1, 2, 0], [0.0, 0.4, 1.0], [3], np.int64)
    found = packed(Block(0, 1, {"number": number, "category": category}), 1.0, Faults())
    assert found.values["number"].tolist() == [1.5, 9]
    assert found.values["category"].tolist() == [2, 0]


def test_absent_reading_is_ignored() -> None:
    column = Column(np.array([1.0, 50.0]), np.array([True, False]), np.array([2]), np.array([0.0, 0.2]))
    found = packed(Block(0, 1, {"a": column}), 1.0, Faults())
    assert found.values["a"].tolist() == [1.0]


def test_readings_may_be_unordered() -> None:
    found = packed(Block(0, 1, {"a": timed([3, 1, 2], [2.0, 0.0, 1.0], [3])}), 1.0, Faults())
    assert found.values["a"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("time", [np.nan, np.inf, -np.inf])
def test_fault_names_an_unusable_time(time: float) -> None:
    told = Faults()
    packed(Block(5, 2, {"a": timed([1, 2, 3], [0.0, 1.0, time], [1, 2])}), 1.0, told)
    with pytest.raises(BadInput) as caught:
        told.raise_if_any()
    (found,) = caught.value.faults
    assert (found.pointer, found.code) == ("/a.time/6/1", "bad_time")


def test_fault_names_a_row_with_too_many_steps() -> None:
    told = Faults()
    packed(Block(0, 1, {"a": timed([1, 2], [0.0, 1e12], [2])}), 1e-3, told)
    with pytest.raises(BadInput, match="expected less than"):
        told.raise_if_any()


def test_npz_file_with_times_is_aligned(tmp_path: Any) -> None:
    arrays = {
        "heart": np.array([[60.0, 62, 64, 0]]),
        "heart.lengths": np.array([3]),
        "heart.time": np.array([[0.0, 1, 2, 0]]),
        "mood": np.array([[3, 1]]),
        "mood.time": np.array([[0.0, 2]]),
    }
    found = converted(tmp_path, arrays, step_seconds=1)
    assert found.schema.step_seconds == 1
    assert found.offsets is not None
    assert found.offsets.tolist() == [0, 3]
    assert found.present["mood"].tolist() == [True, False, True]


def test_times_require_step_seconds_and_all_modalities_have_times(tmp_path: Any) -> None:
    with_times = {"a": np.zeros((1, 2)), "a.time": np.zeros((1, 2))}
    assert [fault.code for fault in faults(tmp_path, with_times)] == ["no_step_seconds"]
    mixed = {**with_times, "b": np.zeros((1, 2))}
    (found,) = faults(tmp_path, mixed, step_seconds=1)
    assert (found.pointer, found.code) == ("/schema/step_seconds", "no_times")
    assert Declaration(step_seconds=1).kind is None
