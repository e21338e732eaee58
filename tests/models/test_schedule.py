"""Schedules reach both ends of every ramp."""

from itertools import pairwise

import pytest

from models.config import ConstantBeta, LinearBeta
from models.schedule import beta_at, learning_rate_factor


def test_a_constant_stays() -> None:
    assert {beta_at(ConstantBeta(value=0.3), step, 10, 5) for step in range(10)} == {0.3}


@pytest.mark.parametrize(("unit", "ramp"), [("training", 0.5), ("epochs", 5), ("steps", 50)])
def test_a_ramp_is_its_start_first_and_its_end_last(unit: str, ramp: float) -> None:
    config = LinearBeta.model_validate({"start": 0.1, "end": 0.9, "ramp": ramp, "ramp_unit": unit})
    values = [beta_at(config, step, 100, 10) for step in range(100)]
    assert values[0] == 0.1
    assert values[48] < 0.9
    assert values[49:] == [0.9] * 51
    steps = [after - before for before, after in pairwise(values[:50])]
    assert steps == pytest.approx([0.8 / 49] * 49)


def test_a_ramp_of_one_step_is_at_its_end() -> None:
    assert beta_at(LinearBeta(end=0.7, ramp=1, ramp_unit="steps"), 0, 10, 5) == 0.7


def test_the_learning_rate_rises_to_its_whole_and_falls_to_its_floor() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 30)
    assert max(factors) == pytest.approx(1)
    assert factors.index(max(factors)) in (29, 30)
    assert factors[-1] == pytest.approx(0.02)
