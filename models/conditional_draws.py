"""Joint draws of what is missing, and their mean and intervals: p(missing | given) of a model with a conditional part.

S codes of each of B rows: (S, B, Z), of sequences (S, B, T, Z). Values have the same leading axes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.conditional import ConditionalFlow
from models.conditional_sequences import SequenceFlow
from models.config.conditional import MIN_CODES, values_per_row
from models.draw_calibration import PATTERN, Width
from models.likelihoods import Likelihood
from models.likelihoods.continuous import Continuous
from models.mmvae import MMVAE
from models.ops.philox import Draws, Rows
from models.stacking import FLOW

# The streams of random numbers.
CODE, VALUE = 23, 24


class Drawn(NamedTuple):
    """Draws of one modality for each code, in the user's units, also where elements are given.

    raw: likelihood parameters, (S, B, *parameter_shape). values: K draws of each code, (K, S, B, *shape). With a time
    axis after B for sequences.
    """

    raw: Tensor
    values: Tensor


def codes(model: Model, inputs: Batch, count: int, seed: int, rows: Rows, state: Tensor | None = None) -> Tensor:
    """Draws from p(z | inputs): (S, B, Z) or (S, B, T, Z).

    rows: (B,) the numbers by which the rows have their own random numbers. state: of sequences that continue.
    """
    noise_of = Draws(seed, 0, CODE, model.backend)
    device = next(iter(inputs.present.values())).device
    if isinstance(model, MMVAE):
        assert model.conditional is not None  # noqa: S101 the caller has looked
        noise = noise_of.normal(rows, count, model.conditional.code_features).movedim(1, 0)
        return model.conditional.draw(model.condition(inputs), noise.to(device))
    assert model.conditional is not None  # noqa: S101 the caller has looked
    # step by step, so that padding changes no earlier number
    noise = noise_of.normal(rows, inputs.valid.shape[1], count, model.conditional.code_features)
    return model.conditional.draw(model.condition(inputs, state), noise.movedim(2, 0).to(device))


def draw(
    model: Model, name: str, inputs: Batch, codes: Tensor, others: Mapping[str, Tensor], seed: int, rows: Rows
) -> Drawn:
    """Draws of one modality for each code, not yet as wide as `DrawCalibration.width` makes them.

    Real numbers keep the likelihood's form, have the spread of the codes that are drawn here, and are moved so that
    their mean is what `Stacking` makes of it. others: of `other_predictions`.
    """
    likelihood, drawn = model.likelihood(name), _drawn(model, name, codes, seed, rows)
    if name not in others:
        return drawn
    flow = _flow(model)
    assert isinstance(flow, ConditionalFlow)  # noqa: S101 others have predictions of it alone
    assert flow.stacking is not None  # noqa: S101
    assert isinstance(likelihood, Continuous)  # noqa: S101
    each = predictions(likelihood, drawn.raw, others[name])
    pattern = flow.calibration.pattern(name, inputs)
    in_part = inputs.observed(name) if name in inputs.values else torch.zeros_like(pattern, dtype=torch.bool)
    weight = flow.stacking.weights(name, pattern, in_part).T  # (3, B)
    weight = weight.reshape(*weight.shape, *[1] * (each.ndim - 2))
    # a prediction without weight does not matter, even if it is no number
    distance = torch.where(weight > 0, weight * each, 0).sum(dim=0) - each[FLOW]
    return Drawn(likelihood.moved(drawn.raw, distance), drawn.values + likelihood.scale * distance)


def other_predictions(model: Model, inputs: Batch, targets: Sequence[str]) -> dict[str, Tensor]:
    """What `Stacking` combines with the flow: standardised predictions of the networks and of the regression.

    (2, B, *shape) for each target that has real numbers, with 0, the mean, for one that the regression lacks; nothing
    for a model without stacking.
    """
    names = [name for name in targets if isinstance(model.likelihood(name), Continuous)]
    flow = model.conditional
    if not names or not isinstance(model, MMVAE) or not isinstance(flow, ConditionalFlow) or flow.stacking is None:
        return {}
    numbers, found = model.stacked_numbers(inputs), {}
    for name, raw in model.decode(inputs, names, None).items():
        likelihood, place = model.likelihood(name), flow.stacking.places.get(name)
        assert isinstance(likelihood, Continuous)  # noqa: S101 so the names were chosen
        of_networks = likelihood.centre_and_spread(raw[0])[0]
        of_regression = torch.zeros_like(of_networks)
        if place is not None:
            of_regression = flow.stacking.regression(numbers, place).reshape(of_networks.shape)
        found[name] = torch.stack([of_networks, of_regression])
    return found


def predictions(likelihood: Continuous, raw: Tensor, others: Tensor) -> Tensor:
    """The three standardised predictions of a modality: (3, B, *shape). raw: of `decoded`."""
    return torch.cat([likelihood.centre_and_spread(raw)[0].mean(dim=0, keepdim=True), others])


def decoded(model: Model, name: str, codes: Tensor) -> Tensor:
    """Likelihood parameters of one modality for each code, of the conditional part: (S, B, ..., *parameter_shape)."""
    raw: Tensor = _flow(model).decoded(name, codes.flatten(0, -2)).unflatten(0, codes.shape[:-1])
    return raw


def _drawn(model: Model, name: str, codes: Tensor, seed: int, rows: Rows) -> Drawn:
    likelihood, raw = model.likelihood(name), decoded(model, name, codes)
    count, rows_count, *steps = codes.shape[:-1]
    shape = likelihood.modality.shape
    flat, last = raw.flatten(0, 1 + len(steps)), 1 + len(steps)
    each = values_per_row(count) // count
    numbers = Draws(seed, 1 + model.index[name], VALUE, model.backend)
    chance = numbers.uniform(rows, math.prod(steps) * each * count * math.prod(shape)).float().to(flat.device)
    # (B, T, K, S, *shape) or (B, K, S, *shape) -> (K, S, B, ..., *shape)
    chance = chance.reshape(rows_count, *steps, each, count, *shape).movedim((1 + len(steps), 2 + len(steps)), (0, 1))
    values = torch.stack([likelihood.quantile(flat, own.flatten(0, last)) for own in chance])
    if likelihood.has_intervals:
        middle = likelihood.quantile(flat, flat.new_full((1,), 0.5))
        values = middle + _flow(model).calibration.noise(name) * (values - middle)
    return Drawn(raw, values.unflatten(1, codes.shape[:-1]))


def widened(likelihood: Likelihood, drawn: Drawn, width: Width) -> Tensor:
    """The draws of real numbers as far from their mean as held-out errors are: (K, S, B, ...)."""
    if not likelihood.has_intervals:
        return drawn.values
    mean = drawn.values.mean(dim=(0, 1))
    factor = width.factor.reshape(*width.factor.shape, *[1] * (mean.ndim - width.factor.ndim))
    values: Tensor = mean + factor * (drawn.values - mean)
    return values


def described(likelihood: Likelihood, drawn: Drawn, values: Tensor, level: float) -> dict[str, Tensor]:
    """What `Likelihood.describe` names, and for numbers and counts `lower` and `upper`: (B, ...) each.

    values: (K, S, B, ...), of `widened`. The interval leaves (1 - level) / 2 of them out on each side, and less where
    there are few codes: one more draw lies inside with probability `level`, if it comes from the same distribution.
    """
    leading = drawn.raw.shape[1 : drawn.raw.ndim - len(likelihood.parameter_shape)]
    described_steps = likelihood.describe(drawn.raw.flatten(1, len(leading)))
    answer = {key: value.unflatten(0, leading) for key, value in described_steps.items()}
    if not likelihood.modality.facts.quantiles:
        return answer
    flat = values.flatten(0, 1)
    if "standard_deviation" in answer:
        answer["standard_deviation"] = ((flat - flat.mean(dim=0)).square().sum(dim=0) / (len(flat) - 1)).sqrt()
    count = values.shape[1]
    # the position (1 - level) / 2 (S + 1) among S draws, of which the n-th stands at (n - 1/2) / S
    tail = max(((1 - level) / 2 * (count + 1) - 0.5) / count, 0.5 / count)
    edges = _quantiles(flat, (tail, 1 - tail))
    if likelihood.modality.support.whole:
        edges = torch.stack([edges[0].floor(), edges[1].ceil()])
    return {**answer, "lower": edges[0], "upper": edges[1]}


def complete(
    model: Model,
    inputs: Batch,
    targets: Sequence[str],
    level: float,
    draws: int,
    seed: int,
    rows: Rows,
    state: Tensor | None = None,
) -> tuple[dict[str, dict[str, Tensor]], Tensor]:
    """Each target's distribution given the inputs, `draws` joint draws of all, and how each row was calibrated.

    Draws are (B, draws, ...). Of a row that has a target only in part, the given elements are in no draw: the caller
    puts them in. state: of sequences that continue.
    """
    found: dict[str, dict[str, Tensor]] = {}
    drawn_codes = codes(model, inputs, max(draws, MIN_CODES), seed, rows, state)
    others = other_predictions(model, inputs, targets)
    calibration = torch.full((inputs.rows,), PATTERN)
    for name in targets:
        likelihood = model.likelihood(name)
        drawn = draw(model, name, inputs, drawn_codes, others, seed, rows)
        width = _flow(model).calibration.width(name, inputs)
        values = widened(likelihood, drawn, width)
        found[name] = described(likelihood, drawn, values, level)
        if likelihood.has_intervals:
            calibration = torch.minimum(calibration, _of_rows(width.calibration, name, inputs))
        if draws:
            found[name]["draws"] = values[0, :draws].movedim(0, 1)
    return found, calibration


def width(model: Model, name: str, inputs: Batch) -> Width:
    """How far the draws of a modality are moved away from their mean."""
    return _flow(model).calibration.width(name, inputs)


def _of_rows(calibration: Tensor, name: str, inputs: Batch) -> Tensor:
    """The least calibration among the steps that lack the modality: (B, T) -> (B,); samples as they are."""
    if inputs.lengths is None:
        return calibration
    missing = inputs.valid & ~inputs.observed(name) if name in inputs.values else inputs.valid
    return torch.where(missing, calibration, PATTERN).amin(dim=1)


def _quantiles(values: Tensor, levels: tuple[float, float]) -> Tensor:
    """Two quantiles over the first axis, between numbers along a straight line: (N, ...) -> (2, ...).

    NumPy sorts rows of single numbers 20 times as fast as torch on a CPU.
    """
    rows = np.sort(values.flatten(1).T.contiguous().cpu().numpy(), axis=1)
    found = []
    for level in levels:
        below, part = divmod(level * (rows.shape[1] - 1), 1)
        at = int(below)
        found.append(rows[:, at] + np.float32(part) * (rows[:, min(at + 1, rows.shape[1] - 1)] - rows[:, at]))
    quantiles: Tensor = torch.from_numpy(np.stack(found)).to(values.device).unflatten(1, values.shape[1:])
    return quantiles


def _flow(model: Model) -> ConditionalFlow | SequenceFlow:
    assert model.conditional is not None  # noqa: S101 the caller has looked
    return model.conditional
