"""Imputation: given values stay, missing ones are predicted with intervals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models import conditional_draws
from models.architectures import Model
from models.batch import Batch
from models.config.calibrations import CALIBRATIONS
from models.likelihoods import Likelihood
from models.mmvae import MMVAE
from models.ops.philox import Rows


class NoConditional(ValueError):
    """Draws are asked of a model without a conditional part."""


def marginals(
    model: Model, inputs: Batch, targets: Sequence[str], level: float, state: Tensor | None = None
) -> dict[str, dict[str, Tensor]]:
    """Each target by itself, decoded from the posterior mean: name -> (B, ...) or (B, T, ...).

    `value`: the given elements, and predictions inside the support elsewhere. What `Multimodal.describe` names. `lower`
    and `upper`, of numbers and counts: the central interval in which a value lies with probability `level`; both equal
    the value where it is given. state: of sequences that continue.
    """
    if isinstance(model, MMVAE):
        raws = model.decode(inputs, targets, None)
    else:
        raws = model.decode_from(inputs, targets, None, state)[0]
    return {name: _marginal(model, inputs, name, raw, level) for name, raw in raws.items()}


def joint(
    model: Model,
    inputs: Batch,
    targets: Sequence[str],
    level: float,
    draws: int,
    seed: int,
    rows: Rows,
    state: Tensor | None = None,
) -> tuple[dict[str, dict[str, Tensor]], Tensor]:
    """All targets together, from draws of the conditional part: name -> (B, ...), and each row's calibration.

    As `marginals`, and with draws > 0 also `draws`, (B, draws, ...): each is a joint completion of its row. rows: (B,)
    the numbers by which the rows have random numbers of their own. state: of sequences that continue.
    """
    found, calibration = conditional_draws.complete(model, inputs, targets, level, draws, seed, rows, state)
    answers = {}
    for name, described in found.items():
        answer = {"value": completed(inputs, name, _filled(model.likelihood(name), described)), **described}
        for side in ("lower", "upper"):
            if side in described:
                answer[side] = completed(inputs, name, described[side])
        if draws:
            of_each = [completed(inputs, name, drawn) for drawn in described["draws"].unbind(dim=1)]
            answer["draws"] = torch.stack(of_each, dim=1)
        answers[name] = answer
    return answers, calibration


def completed(inputs: Batch, name: str, predicted: Tensor) -> Tensor:
    """The given elements of a modality, and predicted ones elsewhere: (B, ...) or (B, T, ...)."""
    if name not in inputs.values:
        return predicted
    given = inputs.values[name]
    return torch.where(inputs.known(name), given, predicted.to(given.dtype))


def calibration(model: Model, inputs: Batch, targets: Sequence[str]) -> Tensor:
    """How the intervals of each row were fitted, as positions in CALIBRATIONS: (B,) int64.

    A row has the least fitted of its targets. "none" also if no target has intervals.
    """
    likelihoods = [model.likelihood(name) for name in targets]
    fitted = [likelihood.is_calibrated for likelihood in likelihoods if likelihood.modality.facts.quantiles]
    word = "pooled" if fitted and all(fitted) else "none"
    return torch.full((inputs.rows,), CALIBRATIONS.index(word))


def _marginal(model: Model, inputs: Batch, name: str, raw: Tensor, level: float) -> dict[str, Tensor]:
    """raw: (1, B, *parameter_shape) or (1, B, T, *parameter_shape)."""
    likelihood = model.likelihood(name)
    described = model.describe(name, raw, inputs.absence(name))
    answer = {"value": completed(inputs, name, _filled(likelihood, described)), **described}
    if likelihood.modality.facts.quantiles:
        leading = raw.shape[1 : raw.ndim - len(likelihood.parameter_shape)]
        last = len(leading) - 1
        flat = {key: value.flatten(0, last) for key, value in described.items()}
        bounds = likelihood.interval(raw[0].flatten(0, last), flat, level)
        for side, bound in zip(("lower", "upper"), bounds, strict=True):
            answer[side] = completed(inputs, name, bound.unflatten(0, leading))
    return answer


def _filled(likelihood: Likelihood, described: dict[str, Tensor]) -> Tensor:
    """The prediction that replaces a missing value; a whole number where the values are whole numbers."""
    filled = likelihood.fill(described)
    return filled.round() if likelihood.modality.support.whole and filled.is_floating_point() else filled
