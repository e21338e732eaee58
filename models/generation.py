"""What a model makes by itself: the steps that follow a sequence, and draws from the prior."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.architectures import Model
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.ops.philox import LARGEST
from models.rollout import RolloutNoise, initial_state, rollout


def forecast(
    model: MMVRNN,
    state: Tensor,
    horizon: int,
    targets: Sequence[str],
    n_samples: int,
    seed: int,
    quantiles: Sequence[float],
) -> dict[str, dict[str, Tensor]]:
    """The distribution of every target at the steps after `state`, (B, F): (B, horizon, ...).

    From S = n_samples paths on which the model sees what it has drawn before; numbers and counts have quantiles too,
    (B, horizon, *shape, Q), of the paths' values. n_samples = 0 follows means, and has no quantiles.
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


def samples(model: MMVAE, rows: int, seed: int) -> dict[str, dict[str, Tensor]]:
    """Draws from the prior: `value`, a value of every modality, beside the distribution it was drawn from: (B, ...)."""
    generator = np.random.default_rng(seed)
    codes = generator.standard_normal((1, rows, model.latent_features), dtype=np.float32)
    raws = model.generate(torch.from_numpy(codes), list(model.index))
    answers = {}
    for name, raw in raws.items():
        chance = _inside(generator.random((rows, *model.likelihood(name).modality.shape)))
        answers[name] = _drawn(model, name, raw[0], torch.from_numpy(chance))
    return answers


def sequences(model: MMVRNN, rows: int, steps: int, seed: int) -> dict[str, dict[str, Tensor]]:
    """`samples` of sequences that begin at the beginning: (B, T, ...)."""
    randomness = _randomness(model, steps, rows, 1, seed)
    raws = rollout(model, initial_state(model, randomness.latent), steps, randomness)
    return {name: _drawn(model, name, raw, randomness.values[name]) for name, raw in raws.items()}


def _randomness(model: MMVRNN, steps: int, draws: int, rows: int, seed: int) -> RolloutNoise:
    """Of S draws from each of B states, (S B, T, ...), draw after draw: every row has the same."""
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
    """Numbers from [0, 1) as float32 numbers from (0, 1).

    A quantile at 0 may be a category or a 0/1 value of probability 0, and a float64 close to 1 becomes 1 in float32.
    """
    inside: np.ndarray = np.clip(chance, 1 - LARGEST, LARGEST).astype(np.float32)
    return inside


def _drawn(model: Model, name: str, raw: Tensor, chance: Tensor) -> dict[str, Tensor]:
    """The value at `chance`, uniform on (0, 1), of the distribution with these parameters, and the distribution."""
    likelihood = model.likelihood(name)
    last = raw.ndim - len(likelihood.parameter_shape) - 1  # of the leading axes: rows, or steps
    value = likelihood.quantile(raw.flatten(0, last), chance.flatten(0, last))
    return {"value": value.unflatten(0, raw.shape[: last + 1]), **model.describe(name, raw.unsqueeze(0))}
