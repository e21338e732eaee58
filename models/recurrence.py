"""The recurrent cell of the sequence models, with what is known for all steps taken out of the time loop."""

import torch
from torch import Tensor, nn


class GRU(nn.Module):
    """Gated recurrent unit (arXiv:1406.1078) whose input has two parts: one known for all steps, and the latent.

    r, u, n = gates of (known_t, z_t, h_{t-1}); h_t = (1 - u) tanh(n_x + r n_h) + u h_{t-1}. H recurrent features.
    """

    def __init__(self, known_features: int, latent_features: int, recurrent_features: int) -> None:
        super().__init__()
        self.recurrent_features = recurrent_features
        self.known = nn.Linear(known_features, 3 * recurrent_features)
        self.latent = nn.Linear(latent_features, 3 * recurrent_features, bias=False)
        self.recurrent = nn.Linear(recurrent_features, 3 * recurrent_features)
        # Orthogonal per gate: a state neither fades nor explodes over the first long sequences.
        for gate in self.recurrent.weight.data.chunk(3):
            nn.init.orthogonal_(gate)

    def initial(self, like: Tensor) -> Tensor:
        """The state before the first step, zeros: (B, H), in the type and device of `like` (B, ...)."""
        return like.new_zeros(len(like), self.recurrent_features)

    def prepare(self, known: Tensor) -> Tensor:
        """The known input's share of the gates, for all steps at once: (..., known_features) -> (..., 3 H)."""
        gates: Tensor = self.known(known)
        return gates

    def step(self, prepared: Tensor, latent: Tensor, state: Tensor) -> Tensor:
        """h_t of one step. prepared: (B, 3 H). latent: (B, Z). state: h_{t-1} (B, H). Returns (B, H)."""
        reset, update, new = (prepared + self.latent(latent)).chunk(3, dim=-1)
        reset_h, update_h, new_h = self.recurrent(state).chunk(3, dim=-1)
        keep = torch.sigmoid(update + update_h)
        candidate = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
        return torch.lerp(candidate, state, keep)
