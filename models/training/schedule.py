"""Values that change from step to step: beta, the weight of the KL divergence, and the learning rate."""

import math

from models.config import ConstantBeta, CyclicalBeta, LearningRateSchedule, LinearBeta


def beta_at(config: ConstantBeta | LinearBeta | CyclicalBeta, step: int, steps: int, steps_per_epoch: int) -> float:
    """beta at `step`, from 0 to steps - 1. A ramp of n steps has `start` at its first step and `end` at its last.

    Raises ValueError if there are fewer steps, or epochs, than cycles.
    """
    if isinstance(config, ConstantBeta):
        return config.value
    if isinstance(config, CyclicalBeta):
        per_unit = steps_per_epoch if config.unit == "epochs" else 1
        return _cyclical(config, step // per_unit, steps // per_unit)
    unit = {"training": steps, "epochs": steps_per_epoch, "steps": 1}[config.ramp_unit]
    last = round(config.ramp * unit) - 1
    if step >= last:
        return config.end
    return config.start + (config.end - config.start) * step / last


def last_beta(config: ConstantBeta | LinearBeta | CyclicalBeta) -> float:
    """beta at the last step. Validation uses it after every epoch, so that epochs can be compared."""
    return config.value if isinstance(config, ConstantBeta) else config.end


def _cyclical(config: CyclicalBeta, position: int, length: int) -> float:
    """beta at one of `length` steps or epochs. Lengths of cycles differ by at most one."""
    if length < config.cycles:
        raise ValueError(f"beta has {config.cycles} cycles in {length} {config.unit}, expected at least one each")
    cycle = position * config.cycles // length
    # the first position of this cycle, and of the next one
    first, after = (-(-number * length // config.cycles) for number in (cycle, cycle + 1))
    last = max(round(config.ramp * (after - first)), min(2, after - first)) - 1
    if position - first >= last:
        return config.end
    return config.start + (config.end - config.start) * (position - first) / last


def learning_rate_factor(config: LearningRateSchedule, step: int, steps: int) -> float:
    """The factor of the learning rate at `step`, from 0 to steps - 1: a linear warm-up, then a decay to the floor.

    During warm-up Adam's running averages still have a large variance. The decay averages the gradients' noise. Half a
    cosine is arXiv:1608.03983.
    """
    rise = round(config.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    if config.schedule == "constant":
        return 1.0
    progress = (step - rise) / max(1, steps - 1 - rise)
    left = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    return config.floor + (1 - config.floor) * left
