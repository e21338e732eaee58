"""Values that follow the training's progress: beta, the weight of the KL divergence, and the learning rate."""

import math

from models.config import ConstantBeta, LinearBeta


def beta_at(config: ConstantBeta | LinearBeta, step: int, steps: int, steps_per_epoch: int) -> float:
    """beta at step 0 to steps - 1. A ramp of n steps is `start` at its first step and `end` at its last and after."""
    if isinstance(config, ConstantBeta):
        return config.value
    unit = {"training": steps, "epochs": steps_per_epoch, "steps": 1}[config.ramp_unit]
    last = round(config.ramp * unit) - 1
    if step >= last:
        return config.end
    return config.start + (config.end - config.start) * step / last


def learning_rate_factor(step: int, steps: int, warmup: float = 0.03, floor: float = 0.02) -> float:
    """Part of the full learning rate at step 0 to steps - 1: a short linear rise, then half a cosine down to `floor`.

    warmup: the rise's part of the training. Adam's first steps are the least certain and the last ones should average
    noise out (arXiv:1608.03983).
    """
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    progress = (step - rise) / max(1, steps - 1 - rise)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
