"""Values that follow the training's progress: beta, the weight of the KL divergence, and the learning rate."""

import math

from models.config import ConstantBeta, CyclicalBeta, LearningRateSchedule, LinearBeta


def beta_at(config: ConstantBeta | LinearBeta | CyclicalBeta, step: int, steps: int, steps_per_epoch: int) -> float:
    """beta at step 0 to steps - 1. A ramp of n steps is `start` at its first step and `end` at its last and after.

    Raises ValueError when there are fewer steps, or epochs, than cycles.
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
    """beta at the end of the training; validation uses it throughout, so that its epochs can be compared."""
    return config.value if isinstance(config, ConstantBeta) else config.end


def _cyclical(config: CyclicalBeta, position: int, length: int) -> float:
    """beta at one of `length` steps or epochs; the cycles' lengths differ by one at most."""
    if length < config.cycles:
        raise ValueError(f"beta has {config.cycles} cycles in {length} {config.unit}, expected at least one each")
    cycle = position * config.cycles // length
    # the first position whose cycle this is, and the first of the next
    first, after = (-(-number * length // config.cycles) for number in (cycle, cycle + 1))
    last = max(round(config.ramp * (after - first)), min(2, after - first)) - 1
    if position - first >= last:
        return config.end
    return config.start + (config.end - config.start) * (position - first) / last


def learning_rate_factor(config: LearningRateSchedule, step: int, steps: int) -> float:
    """Part of the full learning rate at step 0 to steps - 1: a linear rise, then the config's way to its floor.

    Adam's first steps are the least certain and the last ones should average noise out; half a cosine is the way of
    arXiv:1608.03983.
    """
    rise = round(config.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    if config.schedule == "constant":
        return 1.0
    progress = (step - rise) / max(1, steps - 1 - rise)
    left = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    return config.floor + (1 - config.floor) * left
