"""Schedules reach both ends of every ramp."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.config import ConstantBeta, CyclicalBeta, LearningRateSchedule, LinearBeta, TrainingConfig
from models.training.schedule import beta_at, last_beta, learning_rate_factor


def test_a_constant_stays() -> None:
    assert {beta_at(ConstantBeta(value=0.3), step, 10, 5) for step in range(10)} == {0.3}


@pytest.mark.parametrize(("unit", "ramp"), [("training", 0.5), ("epochs", 5), ("steps", 50)])
def test_a_ramp_is_its_start_first_and_its_end_last(unit: str, ramp: float) -> None:
    config = LinearBeta.model_validate({"start": 0.1, "end": 0.9, "ramp": ramp, "ramp_unit": unit})
    values = [beta_at(config, step, 100, 10) for step in range(100)]
    assert values[:50] == pytest.approx([0.1 + 0.8 * step / 49 for step in range(50)])
    assert values[49:] == [0.9] * 51


def test_a_ramp_of_one_step_is_at_its_end() -> None:
    assert beta_at(LinearBeta(end=0.7, ramp=1, ramp_unit="steps"), 0, 10, 5) == 0.7


def test_the_learning_rate_rises_to_its_whole_and_falls_to_its_floor() -> None:
    factors = [learning_rate_factor(LearningRateSchedule(), step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 30)
    assert max(factors) == pytest.approx(1)
    assert factors.index(max(factors)) in (29, 30)
    assert factors[-1] == pytest.approx(0.02)


def test_every_cycle_reaches_both_ends_and_stays() -> None:
    values = [beta_at(CyclicalBeta(start=0.0, end=1.0, cycles=2, ramp=0.5), step, 20, 5) for step in range(20)]
    assert values == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1] * 2)


@settings(deadline=None)
@given(steps=st.integers(1, 300), cycles=st.integers(1, 40), ramp=st.floats(0.01, 1))
def test_cycles_of_any_length_reach_both_ends(steps: int, cycles: int, ramp: float) -> None:
    config = CyclicalBeta(start=0.2, end=0.8, cycles=cycles, ramp=ramp)
    if steps < cycles:
        with pytest.raises(ValueError, match=f"{cycles} cycles in {steps} steps"):
            beta_at(config, 0, steps, 1)
        return
    values = [beta_at(config, step, steps, 1) for step in range(steps)]
    assert all(0.2 <= value <= 0.8 for value in values)
    assert values.count(0.8) >= cycles
    if steps >= 2 * cycles:
        assert values.count(0.2) == cycles


def test_a_cycle_of_epochs_changes_between_epochs_alone() -> None:
    config = CyclicalBeta(start=0.0, end=1.0, cycles=2, ramp=1.0, unit="epochs")
    values = [beta_at(config, step, 30, 5) for step in range(30)]
    assert values == pytest.approx([v for v in [0, 0.5, 1, 0, 0.5, 1] for _ in range(5)])


def test_fewer_epochs_than_cycles_are_refused_with_the_configuration() -> None:
    with pytest.raises(ValidationError, match="4 cycles in 3 epochs"):
        TrainingConfig(epochs=3, beta=CyclicalBeta(cycles=4, unit="epochs"))


SHAPES = pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])


def _factors(shape: str, steps: int, **options: float) -> list[float]:
    config = LearningRateSchedule.model_validate({"schedule": shape, **options})
    return [learning_rate_factor(config, step, steps) for step in range(steps)]


@SHAPES
def test_every_learning_rate_schedule_rises_to_the_whole_and_ends_at_its_floor(shape: str) -> None:
    factors = _factors(shape, 200, warmup=0.1, floor=0.25)
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[20] == pytest.approx(1)
    assert factors[-1] == pytest.approx(1.0 if shape == "constant" else 0.25)
    assert all(after <= before for before, after in pairwise(factors[20:]))


def test_half_way_down_both_ways_are_half_way() -> None:
    for shape in ("cosine", "linear"):
        assert _factors(shape, 101, warmup=0, floor=0.2)[50] == pytest.approx(0.6)
    quarter = _factors("linear", 101, warmup=0, floor=0)[25], _factors("cosine", 101, warmup=0, floor=0)[25]
    assert quarter == pytest.approx((0.75, 0.5 + 0.5 * 0.5**0.5))


@SHAPES
def test_without_warmup_the_first_step_has_the_whole(shape: str) -> None:
    assert _factors(shape, 50, warmup=0)[0] == 1


@SHAPES
@given(steps=st.integers(1, 60), warmup=st.floats(0, 0.5), floor=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_a_learning_rate_is_a_part_of_the_whole_at_any_length(
    shape: str, steps: int, warmup: float, floor: float
) -> None:
    factors = _factors(shape, steps, warmup=warmup, floor=floor)
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == 1


def test_the_last_beta_is_that_of_the_last_step() -> None:
    for config in (ConstantBeta(value=0.3), LinearBeta(end=0.7), CyclicalBeta(end=0.4)):
        assert last_beta(config) == beta_at(config, 99, 100, 10)
