"""The parts of a training: batches of an epoch, schedules, seeds."""

import numpy as np
import pytest

from models.config import LearningRateSchedule, LinearBeta, TrainingConfig
from models.training import setup
from models.training.setup import Seeds
from tests.models.training.small import static, two

TRAINING = TrainingConfig(
    epochs=4,
    batch_size=20,
    beta=LinearBeta(end=1.0, ramp=5, ramp_unit="steps"),
    learning_rate=0.1,
    learning_rate_schedule=LearningRateSchedule(schedule="constant", warmup=0.5),
)


def test_an_epoch_has_each_training_row_once_in_an_order_of_its_own() -> None:
    run = setup.prepare(two(), static(), TRAINING, seed=0, device="cpu")
    assert (run.steps_per_epoch, run.steps, run.epochs_done) == (5, 20, 0)
    first, second = ([batch.rows for batch in run.batches(epoch)] for epoch in (1, 2))
    for epoch in (first, second):
        assert [len(rows) for rows in epoch] == [18] * 5
        assert np.array_equal(np.sort(np.concatenate(epoch)), run.train_rows)
    assert not np.array_equal(first[0], second[0])
    assert not np.intersect1d(run.train_rows, run.validation_rows).size


def test_an_epoch_that_has_begun_continues_with_the_batches_that_are_left() -> None:
    run = setup.prepare(two(), static(), TRAINING, seed=0, device="cpu")
    whole = [batch.rows for batch in run.batches(2)]
    run.trainer.step_count = 7
    assert run.epochs_done == 1
    left = [batch.rows for batch in run.batches(2)]
    assert all(np.array_equal(one, other) for one, other in zip(left, whole[2:], strict=True))


def test_beta_and_learning_rate_are_those_of_the_next_step() -> None:
    run = setup.prepare(two(), static(), TRAINING, seed=0, device="cpu")
    assert (run.beta(), run.learning_rate()) == (0.0, pytest.approx(0.1 / 10))
    run.trainer.step_count = 2
    assert (run.beta(), run.learning_rate()) == (0.5, pytest.approx(0.1 * 3 / 10))


def test_seeds_of_different_purposes_differ_and_follow_from_one() -> None:
    assert Seeds.spawn(3) == Seeds.spawn(3)
    assert len({*Seeds.spawn(3), *Seeds.spawn(4)}) == 10
