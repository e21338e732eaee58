"""Posteriors of the MM-VRNN: q(z_t | x_t, h_{t-1}), and with smoothing also what is observed later.

Each does what it can for all steps at once (`prepare`), and the rest in the time loop (`step`).
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import gaussian
from models.config import MMVRNNConfig
from models.gaussian import Gaussian
from models.networks.mlp import stack


class Evidence(NamedTuple):
    """What is observed, N sequences of T steps.

    features: M of (N, T, F), None for a modality without values. present: M of (N, T) bool or None. joined:
    (N, T, hidden_features), the fusion x_t. future: (N, T, H), b_t of x_t and later, or (N, T, 2 H), of all steps; None
    for a filter. static: q(g | x), (N, G) twice, None for a model without. valid: (N, T).
    """

    features: list[Tensor | None]
    present: list[Tensor | None]
    joined: Tensor
    future: Tensor | None
    static: Gaussian | None
    valid: Tensor


class Inference(nn.Module, ABC):
    """Base class of the posteriors."""

    @abstractmethod
    def prepare(self, evidence: Evidence) -> Tensor:
        """What of the posterior needs no state, for all steps: (N, T, P)."""

    @abstractmethod
    def step(self, prepared: Tensor, state: Tensor) -> Gaussian:
        """q(z_t | ...) of one step. prepared: (N, P). state: h_{t-1} (N, H). Returns (N, Z) twice."""


class Concatenation(Inference):
    """q(z_t | x_t, h_{t-1}) as one network of both (arXiv:1506.02216, eq. 9), and of b_t when smoothing."""

    def __init__(self, config: MMVRNNConfig, future_features: int) -> None:
        super().__init__()
        hidden, recurrent = config.hidden_features, config.recurrent_features
        seen = hidden + future_features
        self.seen = nn.Linear(seen, hidden)
        self.state = nn.Linear(recurrent, hidden, bias=False)
        self.output = nn.Linear(hidden, 2 * config.latent_features)

    def prepare(self, evidence: Evidence) -> Tensor:
        """The share of x_t (and b_t) in the hidden layer."""
        seen = [evidence.joined] if evidence.future is None else [evidence.joined, evidence.future]
        prepared: Tensor = self.seen(torch.cat(seen, dim=-1))
        return prepared

    def step(self, prepared: Tensor, state: Tensor) -> Gaussian:
        """The hidden layer's other share, SiLU, and the moments."""
        return gaussian.from_raw(self.output(functional.silu(prepared + self.state(state))))


class Product(Inference):
    """q(z_t | ...) proportional to p(z_t | h_{t-1}) prod_m q(z_t | x_{t,m}), times q(z_t | b_{t+1}) when smoothing.

    The product of arXiv:1802.05335, eq. 4, with the prior of the step as expert 0 (as in arXiv:1905.13570). The experts
    of the modalities know no state, so all of them are computed before the time loop.
    """

    def __init__(self, config: MMVRNNConfig, prior: nn.Module) -> None:
        super().__init__()
        latent = config.latent_features
        self.experts = nn.ModuleList(nn.Linear(config.modality_features, 2 * latent) for _ in config.modalities)
        self.future = nn.Linear(config.recurrent_features, 2 * latent) if config.inference == "smooth" else None
        # the model's own, not a second one: kept out of the parameters of this module
        self._prior = [prior]

    def members(self, evidence: Evidence) -> tuple[Gaussian, Tensor]:
        """The experts of the evidence, (E, N, T, Z) twice, and their presence (E, N, T)."""
        raws, masks = [], []
        for feature, present, expert in zip(evidence.features, evidence.present, self.experts, strict=True):
            if feature is not None and present is not None:
                raws.append(expert(feature))
                masks.append(present)
        if self.future is not None and evidence.future is not None:
            # b_{t+1}: x_t has its own expert already, and the last step has nothing after it
            raws.append(self.future(evidence.future.roll(-1, dims=1)))
            after = evidence.valid.roll(-1, dims=1)
            after[:, -1] = False
            masks.append(evidence.valid & after)
        return gaussian.from_raw(torch.stack(raws)), torch.stack(masks)

    def prepare(self, evidence: Evidence) -> Tensor:
        """Sums over the present experts: precision times mean, and precision."""
        experts, present = self.members(evidence)
        precision = torch.where(present.unsqueeze(-1), experts.standard_deviation.square().reciprocal(), 0.0)
        return torch.cat([(precision * experts.mean).sum(dim=0), precision.sum(dim=0)], dim=-1)

    def step(self, prepared: Tensor, state: Tensor) -> Gaussian:
        """The prior's precision joins the sums."""
        prior = gaussian.from_raw(self._prior[0](state))
        weighted, precision = prepared.chunk(2, dim=-1)
        own = prior.standard_deviation.square().reciprocal()
        total = precision + own
        return Gaussian((weighted + own * prior.mean) / total, total.rsqrt())


def prior(config: MMVRNNConfig) -> nn.Sequential:
    """p(z_t | h_{t-1}), or p(z_t | h_{t-1}, g): (N, H) or (N, H + G) -> (N, 2 Z) (arXiv:1506.02216, eq. 5)."""
    seen = config.recurrent_features + config.static_latent_features
    return stack(seen, (config.hidden_features,), 2 * config.latent_features)
