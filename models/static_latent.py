"""The latent code of a whole sequence, for properties that do not change between steps: a size, a speed, a person."""

import torch
from torch import Tensor, nn

from models import gaussian
from models.config import MMVRNNConfig
from models.config.size import STATIC_POOLS
from models.gaussian import Gaussian
from models.networks.mlp import stack


class StaticLatent(nn.Module):
    """q(g | x), and the layers by which the other parts of the model depend on g; p(g) = N(0, I).

    q(g | x) is a network of STATIC_POOLS attention pools, weighted means of the smoothed features over time.

    As in models that separate content from dynamics (arXiv:1803.02991), but the initial state and the posterior of each
    step depend on g, too. F smoothed features, G static latent features.
    """

    def __init__(self, config: MMVRNNConfig, smoothed_features: int, state_features: int) -> None:
        super().__init__()
        static, hidden = config.static_latent_features, config.hidden_features
        self.weights = nn.Linear(smoothed_features, STATIC_POOLS)
        self.posterior = stack((STATIC_POOLS + 1) * smoothed_features, (hidden,), 2 * static)
        self.beginning = nn.Linear(static, state_features)
        self.seen = nn.Linear(static, hidden, bias=False)

    def forward(self, smoothed: Tensor, ends: Tensor, valid: Tensor) -> Gaussian:
        """q(g | x), (N, G) twice. smoothed: (N, T, F). ends: (N, F), of `Smoother.ends`. valid: (N, T) bool."""
        score = self.weights(smoothed).float().masked_fill(~valid.unsqueeze(-1), -1e9)
        pools = torch.einsum("ntp,ntf->npf", score.softmax(dim=1).to(smoothed.dtype), smoothed)
        return gaussian.from_raw(self.posterior(torch.cat([pools.flatten(1), ends], dim=-1)))

    def initial_state(self, code: Tensor) -> Tensor:
        """The state before the first step: (N, G) -> (N, state_features)."""
        return torch.tanh(self.beginning(code))

    def share(self, code: Tensor) -> Tensor:
        """The part of g in the hidden layer of each step's posterior: (N, G) -> (N, hidden_features)."""
        share: Tensor = self.seen(code)
        return share
