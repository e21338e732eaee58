"""Inference networks of the MM-VRNN: the joint posterior q(z_t | ...) of each step.

It depends on x_t and h_{t-1}, and if the model smooths, also on later observations. `prepare` computes for all steps
together what does not depend on the state; `step` computes the rest, step by step.
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
    """The parts of the inference that do not depend on the state, of N sequences of T steps.

    features: M of (N, T, F), present: M of (N, T) bool; either is None for a modality that is absent everywhere.
    joined: (N, T, hidden_features), the fused features of x_t. future: (N, T, H), b_t of x_t and later, or (N, T, 2 H),
    of all steps; None for a filter. static: q(g | x), (N, G) twice; None for a model without a static latent.
    valid: (N, T).
    """

    features: list[Tensor | None]
    present: list[Tensor | None]
    joined: Tensor
    future: Tensor | None
    static: Gaussian | None
    valid: Tensor


class InferenceNetwork(nn.Module, ABC):
    """Base class of the joint posteriors."""

    @abstractmethod
    def prepare(self, evidence: Evidence) -> Tensor:
        """The part that does not depend on the state, for all steps: (N, T, P)."""

    @abstractmethod
    def step(self, prepared: Tensor, state: Tensor) -> Gaussian:
        """q(z_t | ...) of one step. prepared: (N, P). state: h_{t-1} (N, H). Returns (N, Z) twice."""


class ConcatenationNetwork(InferenceNetwork):
    """q(z_t | x_t, h_{t-1}) as one network of both (arXiv:1506.02216, eq. 9), and of b_t when smoothing."""

    def __init__(self, config: MMVRNNConfig, future_features: int) -> None:
        super().__init__()
        hidden, recurrent = config.hidden_features, config.recurrent_features
        self.seen = nn.Linear(hidden + future_features, hidden)
        self.state = nn.Linear(recurrent, hidden, bias=False)
        self.output = nn.Linear(hidden, 2 * config.latent_features)

    def prepare(self, evidence: Evidence) -> Tensor:
        """The part of the hidden layer that x_t (and b_t) determine."""
        seen = [evidence.joined] if evidence.future is None else [evidence.joined, evidence.future]
        prepared: Tensor = self.seen(torch.cat(seen, dim=-1))
        return prepared

    def step(self, prepared: Tensor, state: Tensor) -> Gaussian:
        """Add the state's part, apply SiLU and the output layer."""
        return gaussian.from_raw(self.output(functional.silu(prepared + self.state(state))))


class ProductOfExpertsNetwork(InferenceNetwork):
    """q(z_t | ...) proportional to p(z_t | h_{t-1}) prod_m q(z_t | x_{t,m}), times q(z_t | b_{t+1}) when smoothing.

    The product of arXiv:1802.05335, eq. 4, with the prior of the step as expert 0 (as in arXiv:1905.13570). The
    modalities' experts do not depend on the state, so all steps' are computed before the time loop.
    """

    def __init__(self, config: MMVRNNConfig, prior: nn.Module) -> None:
        super().__init__()
        latent = config.latent_features
        self.experts = nn.ModuleList(nn.Linear(config.modality_features, 2 * latent) for _ in config.modalities)
        self.future = nn.Linear(config.recurrent_features, 2 * latent) if config.inference == "smooth" else None
        # in a list, so that the parameters belong to the model alone
        self._prior = [prior]

    def members(self, evidence: Evidence) -> tuple[Gaussian, Tensor]:
        """The experts of the evidence, (E, N, T, Z) twice, and their presence (E, N, T)."""
        raws, masks = [], []
        for feature, present, expert in zip(evidence.features, evidence.present, self.experts, strict=True):
            if feature is not None and present is not None:
                raws.append(expert(feature))
                masks.append(present)
        if self.future is not None and evidence.future is not None:
            # b_{t+1}: x_t has its own expert, and no step follows the last
            raws.append(self.future(evidence.future.roll(-1, dims=1)))
            after = evidence.valid.roll(-1, dims=1)
            after[:, -1] = False
            masks.append(evidence.valid & after)
        return gaussian.from_raw(torch.stack(raws)), torch.stack(masks)

    def prepare(self, evidence: Evidence) -> Tensor:
        """Mean and precision of the product of the evidence's experts, without the prior: (N, T, 2 Z)."""
        experts, present = self.members(evidence)
        return torch.cat(gaussian.product_of_experts(experts.mean, experts.precision, present), dim=-1)

    def step(self, prepared: Tensor, state: Tensor) -> Gaussian:
        """Multiply with the step's prior."""
        prior = gaussian.from_raw(self._prior[0](state))
        mean, precision = prepared.chunk(2, dim=-1)
        mean, precision = gaussian.product_of_experts(
            torch.stack([prior.mean, mean]), torch.stack([prior.precision, precision])
        )
        return Gaussian(mean, precision.rsqrt())

    def shares(self, evidence: Evidence, prior: Gaussian) -> Tensor:
        """Each expert's share in the joint precision, (E, N, T). prior: p(z_t | h_{t-1}), (N, T, Z) twice."""
        experts, present = self.members(evidence)
        precision = torch.cat([prior.precision.unsqueeze(0), experts.precision])
        return gaussian.precision_shares(precision, torch.cat([torch.ones_like(present[:1]), present]))[1:]


def prior(config: MMVRNNConfig) -> nn.Sequential:
    """p(z_t | h_{t-1}), or p(z_t | h_{t-1}, g): (N, H) or (N, H + G) -> (N, 2 Z) (arXiv:1506.02216, eq. 5)."""
    seen = config.recurrent_features + config.static_latent_features
    return stack(seen, (config.hidden_features,), 2 * config.latent_features)


def build(config: MMVRNNConfig, prior: nn.Module, future_features: int) -> InferenceNetwork:
    """The inference network that `config.posterior` names. future_features: size of b_t, 0 for a filter."""
    if config.posterior == "product_of_experts":
        return ProductOfExpertsNetwork(config, prior)
    return ConcatenationNetwork(config, future_features)
