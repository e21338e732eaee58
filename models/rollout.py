"""Rollouts of an MM-VRNN: steps that the model generates, each from the previous ones."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from models import gaussian
from models.mmvrnn import MMVRNN


class RolloutNoise(NamedTuple):
    """The random numbers of generated steps.

    latent: (N, T, Z + G) from N(0, I). values: name -> uniform on (0, 1), broadcasting to (N, T, *shape).
    """

    latent: Tensor
    values: Mapping[str, Tensor]


def initial_state(model: MMVRNN, noise: Tensor) -> Tensor:
    """The state before the first step of new sequences, followed by g: (N, state_features + G).

    noise: (N, T, Z + G) from N(0, I); g is drawn with the noise of the first step.
    """
    if model.static is None:
        return model.recurrence.initial(noise)
    code = noise[:, 0, model.step_features :]
    return torch.cat([model.static.initial_state(code), code], dim=-1)


def rollout(model: MMVRNN, state: Tensor, steps: int, noise: RolloutNoise | None) -> dict[str, Tensor]:
    """Ancestral sampling: the values generated at one step are the next step's inputs (arXiv:1506.02216, eq. 6).

    state: (N, state_features + G), of `MMVRNN.final_state` or `initial_state`. Without noise the codes are prior means,
    and the values are each likelihood's `fill`. Returns name -> likelihood parameters, (N, steps, *parameter_shape).
    """
    state, static = state.split([model.recurrence.state_features, model.config.static_latent_features], dim=-1)
    raws: dict[str, list[Tensor]] = {name: [] for name in model.index}
    everywhere = torch.ones(len(state), 1, dtype=torch.bool, device=state.device)
    for t in range(steps):
        context = torch.cat([model.recurrence.output(state), static], dim=-1)
        prior = gaussian.from_raw(model.prior(context))
        code = prior.mean
        if noise is not None:
            code = gaussian.draw(prior, noise.latent[:, t, : model.step_features])
        features: list[Tensor | None] = []
        for name, generated in raws.items():
            raw = model.decoded(name, torch.cat([code, context], dim=-1))
            likelihood = model.likelihood(name)
            if noise is None:
                value = likelihood.fill(likelihood.describe(raw.unsqueeze(0)))
            else:
                value = likelihood.quantile(raw, noise.values[name][:, t])
            features.append(model.encoded(name, value).unsqueeze(1))
            generated.append(raw)
        if model.static is None:
            seen = model.fusion(features, [everywhere] * len(features), everywhere)[:, 0]
        else:
            seen = static
        state = model.recurrence.step(model.recurrence.prepare(seen), code, state)
    return {name: torch.stack(generated, dim=1) for name, generated in raws.items()}
