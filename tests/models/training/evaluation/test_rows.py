"""Which rows an evaluation reads, and in which batches."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.architectures import build
from models.training.dataset import Dataset
from models.training.evaluation import rows
from tests.models.training.small import sequences, static, two

TRAIN, HELD_OUT = np.arange(10, 100), np.arange(10)


def _with_test_rows(*test_rows: int) -> Dataset:
    found = static()
    splits = np.zeros(100, np.uint8)
    splits[list(test_rows)] = 2
    return Dataset(found.kind, found.modalities, 100, found.values, found.present, None, splits)


@pytest.mark.parametrize(
    ("dataset", "held_out", "name", "expected"),
    [
        (_with_test_rows(3, 8), HELD_OUT, "test", np.array([3, 8])),
        (_with_test_rows(), HELD_OUT, "validation", HELD_OUT),
        (static(), HELD_OUT[:0], "training", TRAIN),
    ],
)
def test_test_rows_come_first_then_validation_rows_then_training_rows(
    dataset: Dataset, held_out: NDArray[np.int64], name: str, expected: NDArray[np.int64]
) -> None:
    found = rows.held_out(dataset, TRAIN, held_out)
    assert found[0] == name
    assert np.array_equal(found[1], expected)


def test_a_sample_is_of_different_rows_in_order_and_the_same_for_a_seed() -> None:
    model, dataset = build(two()), static()
    assert rows.sample(model, dataset, TRAIN, 1000, 1, seed=0) is TRAIN
    found = rows.sample(model, dataset, TRAIN, 30, 1, seed=0)
    assert len(np.unique(found)) == 30
    assert np.isin(found, TRAIN).all()
    assert (np.diff(found) > 0).all()
    assert np.array_equal(found, rows.sample(model, dataset, TRAIN, 30, 1, seed=0))
    assert not np.array_equal(found, rows.sample(model, dataset, TRAIN, 30, 1, seed=1))


def test_rows_with_many_numbers_are_fewer_but_never_fewer_than_a_minimum() -> None:
    model, dataset = build(two()), static()
    draws = rows.MAX_NUMBERS // (rows.MIN_WIDTH * 60)
    assert len(rows.sample(model, dataset, TRAIN, 80, draws, seed=0)) == 60
    assert len(rows.sample(model, dataset, TRAIN, 80, 100 * draws, seed=0)) == rows.MIN_ROWS


def test_batches_are_all_rows_in_order_each_as_large_as_fits() -> None:
    model, dataset = build(two()), static()
    draws = rows.MAX_NUMBERS_AT_ONCE // (rows.MIN_WIDTH * 40)
    found = list(rows.batches(model, dataset, TRAIN, draws))
    assert [len(chunk) for _, chunk in found] == [40, 40, 10]
    assert np.array_equal(np.concatenate([chunk for _, chunk in found]), TRAIN)
    for batch, chunk in found:
        assert np.array_equal(batch.values["m1"].numpy(), dataset.values["m1"][chunk])


def test_the_numbers_of_a_row_are_the_longest_sequence_times_the_widest_layer() -> None:
    assert rows.numbers_per_row(build(two()), static()) == rows.MIN_WIDTH
    assert rows.numbers_per_row(build(two("sequence")), sequences(steps=6)) == 6 * rows.MIN_WIDTH
