"""Generation: forecasts of the steps after a sequence, and draws from the prior."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models import conditional_draws
from models.architectures import Model
from models.batch import Batch
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.ops.philox import LARGEST
from models.rollout import RolloutNoise, initial_state, rollout

# Of the intervals of completions, which a forecast does not answer.
LEVEL = 0.9


def forecast(
    model: MMVRNN,
    state: Tensor,
    horizon: int,
    targets: Sequence[str],
    n_samples: int,
    seed: int,
    quantiles: Sequence[float],
) -> dict[str, dict[str, Tensor]]:
    """The distribution of each target at the `horizon` steps after `state`, (B, F): (B, horizon, ...).

    Rolls out S = n_samples paths; the values drawn at one step are inputs of the next. Numbers and counts also have
    quantiles of the paths' values, (B, horizon, *shape, Q). n_samples = 0 rolls out means and gives no quantiles.
    """
    draws = max(n_samples, 1)
    randomness = _randomness(model, horizon, n_samples, len(state), seed) if n_samples else None
    raws = rollout(model, state.repeat(draws, 1), horizon, randomness)
    answers = {}
    for name in targets:
        raw = raws[name].unflatten(0, (draws, -1))  # (S, B, horizon, ...)
        answers[name] = model.describe(name, raw)
        likelihood = model.likelihood(name)
        if randomness is not None and likelihood.modality.facts.quantiles:
            drawn = likelihood.quantile(raws[name].flatten(0, 1), randomness.values[name].flatten(0, 1))
            drawn = drawn.unflatten(0, raw.shape[:3])
            levels = torch.tensor(list(quantiles), dtype=drawn.dtype)
            answers[name]["quantiles"] = drawn.quantile(levels, dim=0).movedim(0, -1)
    return answers


def forecast_jointly(
    model: MMVRNN,
    inputs: Batch,
    state: Tensor | None,
    horizon: int,
    targets: Sequence[str],
    n_samples: int,
    seed: int,
    quantiles: Sequence[float],
) -> dict[str, dict[str, Tensor]]:
    """As `forecast`, from joint draws of the conditional part given the sequences before, (B, T) steps after `state`.

    All rows share their random numbers.
    """
    extended, same = _extended(inputs, horizon), np.zeros(inputs.rows, np.int64)
    assert inputs.lengths is not None  # noqa: S101 sequences have them
    future = inputs.lengths.unsqueeze(1) + torch.arange(horizon, device=inputs.lengths.device)  # (B, horizon)
    row = torch.arange(inputs.rows, device=future.device).unsqueeze(1)
    found, _ = conditional_draws.complete(model, extended, targets, LEVEL, n_samples, seed, same, state)
    answers = {}
    for name, described in found.items():
        drawn = described.pop("draws").movedim(1, 0)[:, row, future]  # (S, B, horizon, *shape)
        answers[name] = {key: value[row, future] for key, value in described.items() if key not in ("lower", "upper")}
        if model.likelihood(name).modality.facts.quantiles:
            levels = torch.tensor(list(quantiles), dtype=drawn.dtype)
            answers[name]["quantiles"] = drawn.quantile(levels, dim=0).movedim(0, -1)
    return answers


def _extended(inputs: Batch, horizon: int) -> Batch:
    """The sequences with `horizon` more steps, at which everything is missing."""
    assert inputs.lengths is not None  # noqa: S101 sequences have them

    def longer(values: Tensor) -> Tensor:
        return torch.cat([values, values.new_zeros(values.shape[0], horizon, *values.shape[2:])], dim=1)

    return Batch(
        {name: longer(value) for name, value in inputs.values.items()},
        {name: longer(mask) for name, mask in inputs.present.items()},
        inputs.lengths + horizon,
    )


def samples(model: MMVAE, rows: int, seed: int) -> dict[str, dict[str, Tensor]]:
    """Draws from the prior: for each modality a `value`, and the distribution from which it was drawn: (B, ...)."""
    generator = np.random.default_rng(seed)
    codes = generator.standard_normal((1, rows, model.latent_features), dtype=np.float32)
    raws = model.generate(torch.from_numpy(codes), list(model.index))
    answers = {}
    for name, raw in raws.items():
        chance = _inside(generator.random((rows, *model.likelihood(name).modality.shape)))
        answers[name] = _drawn(model, name, raw[0], torch.from_numpy(chance))
    return answers


def sequences(model: MMVRNN, rows: int, steps: int, seed: int) -> dict[str, dict[str, Tensor]]:
    """`samples` for a model of sequences, from their first step on: (B, T, ...)."""
    randomness = _randomness(model, steps, rows, 1, seed)
    raws = rollout(model, initial_state(model, randomness.latent), steps, randomness)
    return {name: _drawn(model, name, raw, randomness.values[name]) for name, raw in raws.items()}


def _randomness(model: MMVRNN, steps: int, draws: int, rows: int, seed: int) -> RolloutNoise:
    """The random numbers of S draws for each of B states: (S B, T, ...), draw by draw. All rows share them."""
    generator = np.random.default_rng(seed)
    latent = generator.standard_normal((steps, draws, model.latent_features), dtype=np.float32)

    def of_paths(array: np.ndarray) -> Tensor:
        # (T, S, ...) -> (S B, T, ...)
        return torch.from_numpy(np.repeat(np.moveaxis(array, 1, 0), rows, axis=0))

    values = {
        name: of_paths(
            _inside(generator.random((steps, draws, *model.likelihood(name).modality.shape), dtype=np.float32))
        )
        for name in model.index
    }
    return RolloutNoise(of_paths(latent), values)


def _inside(chance: np.ndarray) -> np.ndarray:
    """Numbers from [0, 1), moved into (0, 1) as float32.

    The quantile at 0 may be a category, or a 0/1 value, of probability 0. A float64 close to 1 becomes 1 in float32.
    """
    inside: np.ndarray = np.clip(chance, 1 - LARGEST, LARGEST).astype(np.float32)
    return inside


def _drawn(model: Model, name: str, raw: Tensor, chance: Tensor) -> dict[str, Tensor]:
    """A draw from the distribution with these parameters, and the distribution. chance: uniform on (0, 1)."""
    likelihood = model.likelihood(name)
    last = raw.ndim - len(likelihood.parameter_shape) - 1  # the last leading axis: rows, or steps
    value = likelihood.quantile(raw.flatten(0, last), chance.flatten(0, last))
    return {"value": value.unflatten(0, raw.shape[: last + 1]), **model.describe(name, raw.unsqueeze(0))}
