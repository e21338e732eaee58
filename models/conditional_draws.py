"""Joint draws of what is missing in samples, and their mean and intervals: p(missing | given) of an MM-VAE."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.batch import Batch
from models.conditional import ConditionalFlow
from models.config.conditional import MIN_CODES, values_per_row
from models.draw_calibration import Width
from models.likelihoods import Likelihood
from models.mmvae import MMVAE
from models.ops.philox import Draws, Rows

# The streams of random numbers.
CODE, VALUE = 23, 24


class Drawn(NamedTuple):
    """Draws of one modality for S codes of each of B rows, in the user's units, also where elements are given.

    raw: likelihood parameters, (S, B, *parameter_shape). values: K draws of each code, (K, S, B, *shape).
    """

    raw: Tensor
    values: Tensor


def codes(model: MMVAE, inputs: Batch, count: int, seed: int, rows: Rows) -> Tensor:
    """Draws from p(z | inputs): (S, B, Z). rows: (B,) the numbers by which the rows have their own random numbers."""
    flow = _flow(model)
    device = next(iter(inputs.present.values())).device
    noise = Draws(seed, 0, CODE, model.backend).normal(rows, count, model.latent_features).movedim(1, 0)
    return flow.draw(flow.given(inputs, model.encoder_input), noise.to(device))


def draw(model: MMVAE, name: str, codes: Tensor, seed: int, rows: Rows) -> Drawn:
    """Draws of one modality for each code, not yet as wide as `DrawCalibration.width` makes them.

    Real numbers keep the likelihood's form, and have the spread of the codes that are drawn here.
    """
    likelihood = model.likelihood(name)
    count, rows_count = codes.shape[:2]
    shape = likelihood.modality.shape
    raw = _flow(model).decoded(name, codes.flatten(0, 1)).unflatten(0, (count, rows_count))
    elements = math.prod(shape)
    each = values_per_row(count) // count
    chance = Draws(seed, 1 + model.index[name], VALUE, model.backend).uniform(rows, each * count * elements)
    chance = chance.float().to(raw.device).reshape(rows_count, each, count, *shape).movedim(0, 2)  # (K, S, B, *shape)
    flat = raw.flatten(0, 1)
    values = torch.stack([likelihood.quantile(flat, own.flatten(0, 1)) for own in chance])
    if likelihood.has_intervals:
        middle = likelihood.quantile(flat, flat.new_full((1,), 0.5))
        values = middle + _flow(model).calibration.noise(name) * (values - middle)
    return Drawn(raw, values.unflatten(1, (count, rows_count)))


def widened(likelihood: Likelihood, drawn: Drawn, width: Width) -> Tensor:
    """The draws of real numbers as far from their mean as held-out errors are: (K, S, B, *shape)."""
    if not likelihood.has_intervals:
        return drawn.values
    mean = drawn.values.mean(dim=(0, 1))
    return mean + width.factor.reshape(-1, *[1] * (mean.ndim - 1)) * (drawn.values - mean)


def described(likelihood: Likelihood, drawn: Drawn, values: Tensor, level: float) -> dict[str, Tensor]:
    """What `Likelihood.describe` names, and for numbers and counts `lower` and `upper`: (B, *shape) each.

    values: (K, S, B, *shape), of `widened`. The interval leaves (1 - level) / 2 of them out on each side.
    """
    answer = likelihood.describe(drawn.raw)
    if not likelihood.modality.facts.quantiles:
        return answer
    flat = values.flatten(0, 1)
    if "standard_deviation" in answer:
        answer["standard_deviation"] = flat.std(dim=0)
    tail = (1 - level) / 2
    edges = flat.quantile(flat.new_tensor([tail, 1 - tail]), dim=0)
    if likelihood.modality.support.whole:
        edges = torch.stack([edges[0].floor(), edges[1].ceil()])
    return {**answer, "lower": edges[0], "upper": edges[1]}


def complete(
    model: MMVAE, inputs: Batch, targets: Sequence[str], level: float, draws: int, seed: int, rows: Rows
) -> tuple[dict[str, dict[str, Tensor]], Tensor]:
    """Each target's distribution given the inputs, `draws` joint draws of all, and how each row was calibrated.

    Draws are (B, draws, *shape). Of a row that has a target only in part, the given elements are in no draw: the caller
    puts them in.
    """
    found: dict[str, dict[str, Tensor]] = {}
    drawn_codes = codes(model, inputs, max(draws, MIN_CODES), seed, rows)
    calibration = torch.full((inputs.rows,), 2)
    for name in targets:
        likelihood = model.likelihood(name)
        drawn = draw(model, name, drawn_codes, seed, rows)
        width = _flow(model).calibration.width(name, inputs)
        values = widened(likelihood, drawn, width)
        found[name] = described(likelihood, drawn, values, level)
        if likelihood.has_intervals:
            calibration = torch.minimum(calibration, width.calibration)
        if draws:
            found[name]["draws"] = values[0, :draws].movedim(0, 1)
    return found, calibration


def width(model: MMVAE, name: str, inputs: Batch) -> Width:
    """How far the draws of a modality are moved away from their mean."""
    return _flow(model).calibration.width(name, inputs)


def _flow(model: MMVAE) -> ConditionalFlow:
    assert model.conditional is not None  # noqa: S101 the caller has looked
    return model.conditional
