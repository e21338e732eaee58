"""One latent code for a whole sequence: what does not change from step to step, such as a size, a speed or a person."""

import torch
from torch import Tensor, nn

from models import gaussian
from models.config import MMVRNNConfig
from models.config.size import STATIC_POOLS
from models.gaussian import Gaussian
from models.networks.mlp import stack


class StaticLatent(nn.Module):
    """q(g | x) and what g says to the rest of the model; p(g) = N(0, I).

    It looks at the sequence through STATIC_POOLS attention pools, weighted means over time.

    As in models that split content from dynamics (arXiv:1803.02991), but g is also the start of the state and part of
    every posterior. F smoothed features, G static latent features.
    """

    def __init__(self, config: MMVRNNConfig, smoothed_features: int, state_features: int) -> None:
        super().__init__()
        static, hidden = config.static_latent_features, config.hidden_features
        self.weights = nn.Linear(smoothed_features, STATIC_POOLS)
        self.posterior = stack((STATIC_POOLS + 1) * smoothed_features, (hidden,), 2 * static)
        self.beginning = nn.Linear(static, state_features)
        self.seen = nn.Linear(static, hidden, bias=False)

    def forward(self, smoothed: Tensor, ends: Tensor, valid: Tensor) -> Gaussian:
        """q(g | x): smoothed (N, T, F), ends (N, F) what was known at the ends, valid (N, T). Returns (N, G) twice."""
        score = self.weights(smoothed).float().masked_fill(~valid.unsqueeze(-1), -1e9)
        pools = torch.einsum("ntp,ntf->npf", score.softmax(dim=1).to(smoothed.dtype), smoothed)
        return gaussian.from_raw(self.posterior(torch.cat([pools.flatten(1), ends], dim=-1)))

    def initial_state(self, code: Tensor) -> Tensor:
        """The state before the first step: (N, G) -> (N, state_features)."""
        return torch.tanh(self.beginning(code))

    def share(self, code: Tensor) -> Tensor:
        """Its share in the hidden layer of every step's posterior: (N, G) -> (N, hidden_features)."""
        share: Tensor = self.seen(code)
        return share
